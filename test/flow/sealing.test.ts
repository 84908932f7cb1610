import type { Operation } from 'accepted'
import t, { type Test } from 'tap'
import { newEncryptionKey } from '../../src/primitives/key-ring.ts'
import { serve } from '../support/api.ts'
import { ended, get, post } from '../support/client.ts'
import { asRole } from '../support/database.ts'
import { dump } from '../support/dump.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { handlers, isolated, operations, performed, seen, settled } from './fixtures/sealed-operations.ts'

const key = newEncryptionKey('2026')
const card = '4111-1111-1111-1111'
const sealedMember = { $sealed: /^sealed\.2026\.[\w-]+$/ }

async function setUp(t: Test, encryptionKeys = key) {
  const api = await serve(t, { operations, encryptionKeys })
  const jobs = await openJobs(t, Object.values(operations), api.database.options.url)
  const databaseUrl = asRole(api.database.options.url, 'worker')
  return {
    ...{ ...jobs, url: api.url, accepted: api.app.accepted },
    /** Starts a worker. Without a list, it claims the jobs of all operations except `payment.coalesce`. */
    work: (names?: string[], keys = encryptionKeys) =>
      jobs.work(handlers, {
        ...{ database: databaseUrl, encryptionKeys: keys },
        operations: names ?? Object.values(operations).flatMap(({ name }) => (name.endsWith('coalesce') ? [] : [name])),
      }),
    /** Returns the payload in the queue. */
    queued: async (id: string) =>
      (await jobs.query("select data -> 'payload' as payload from accepted_queue.job where id = $1", [id]))[0]?.payload,
    dump: () => dump(jobs.database),
  }
}

const seenBy = (by: string, id: string) =>
  seen.filter((one) => one.by === by && one.id === id).map(({ value }) => value)

const pathOf = ({ route }: Operation) => `${route?.url}`

for (const operation of [performed, settled, isolated]) {
  t.test(
    `${operation.name}: sealed members are open to the handler and the owner, and encrypted at rest`,
    async (t) => {
      const { url, work, queued, read, dump } = await setUp(t)
      const { body } = await post(url + pathOf(operation), { card, amount: 1 })
      t.match(await queued(body.id), { card: sealedMember })
      t.notMatch(await dump(), card)
      await work()
      const monitor = await ended(body.links.self)
      t.match(monitor, { status: 'succeeded', result: { receipt: RegExp(`^receipt of "?${card}"?$`) } })
      t.same((await get(body.links.result)).body, monitor.result)
      t.match((await read(body.id)).result, { receipt: sealedMember })
      t.notMatch(await dump(), card)
    },
  )
}

t.test('retries, redrives, duplicates, batches and children copy what is sealed', async (t) => {
  const { url, accepted, work, query, read, ended: endedRow, dump } = await setUp(t)
  await work()
  const declined = await post(`${url}/payments`, { card, amount: 1, order: 'declined' })
  t.match(await ended(declined.body.links.self), { status: 'failed' })
  const { payload } = await read(declined.body.id)
  t.match(payload, { card: sealedMember, order: 'declined' })

  const { body: retry } = await post(declined.body.links.retry, undefined)
  t.match(await ended(retry.links.self), { status: 'failed', retryOf: declined.body.id })
  t.same(seenBy('perform', retry.id), [card], 'the retry can be opened')
  t.same((await read(retry.id)).payload, payload, 'the retry copies what is sealed')
  const [{ id: redriven }] = await query('select accepted.redrive() as id')
  t.match(await endedRow(redriven), { status: 'failed' })
  t.same(seenBy('perform', redriven), [card])

  const enqueueOnce = () =>
    accepted.db.transaction().execute((trx) => accepted.enqueue(trx, settled, { card, amount: 1 }, { key: 'once' }))
  const duplicates = [await enqueueOnce(), await enqueueOnce()]
  const [first, second] = await Promise.all(duplicates.map(({ id }) => endedRow(id)))
  t.match(first.result, { receipt: sealedMember })
  t.same(second.result, first.result, 'a duplicate copies what is sealed')
  for (const { id } of duplicates) {
    t.match((await get(`${url}/jobs/${id}`)).body, { result: { receipt: `receipt of "${card}"` } })
  }

  const items = Array.from({ length: 3 }, () => ({ operation: 'payment.perform', input: { card, amount: 1 } }))
  const { body: batch } = await post(`${url}/batches`, { items, onEnd: items[0] })
  t.match(await ended(batch.links.self), { status: 'succeeded' })
  const findNext = "select id from accepted.job where batch ->> 'id' = $1 and ended_at is not null"
  const next = await until(async () => (await query(findNext, [batch.id]))[0])
  t.same(seenBy('perform', next.id), [card])
  const { body: split } = await post(`${url}/split-payments`, { card, amount: 1 })
  t.match(await ended(split.links.self), { status: 'succeeded', result: { receipt: `receipt of "${card}"` } })
  t.notMatch(await dump(), card)
})

t.test('accept and abandon get sealed members open', async (t) => {
  const { url, work, queued, query, dump } = await setUp(t)
  const submit = (number: string) => post(`${url}/coalesced-payments`, { card: number, amount: 1, order: 'a' })
  const { body: first } = await submit('5500-0000-0000-0004')
  const { body: second } = await submit(card)
  t.equal(second.id, first.id)
  t.same(seenBy('accept', first.id), [undefined, '5500-0000-0000-0004'])
  t.match(await queued(first.id), { card: sealedMember })

  const { body: canceled } = await post(`${url}/abandoned-payments`, { card, amount: 1 })
  await post(canceled.links.cancel, undefined)
  t.match(await ended(canceled.links.self), { status: 'canceled' })
  const { body: failed } = await post(`${url}/abandoned-payments`, { card, amount: 1, order: 'declined' })
  t.notMatch(await dump(), RegExp(`${card}|5500-0000-0000-0004`))
  await work()
  t.match(await ended(failed.links.self), { status: 'failed' })
  for (const { id } of [canceled, failed]) t.same(seenBy('abandon', id), [card])

  await query("update accepted_queue.job set start_after = now() where name = 'payment.coalesce'")
  await work(['payment.coalesce'])
  t.match(await ended(first.links.self), { status: 'succeeded' })
  t.same(seenBy('perform', first.id), [card])
  t.notMatch(await dump(), RegExp(`${card}|5500-0000-0000-0004`))
})
