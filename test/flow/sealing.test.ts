import { join } from 'node:path'
import { accepted as acceptedPlugin, defineSchedule, type Operation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { fingerprintOf } from '../../src/accept/fingerprint.ts'
import { createKey } from '../../src/jobs/api-key.ts'
import { newEncryptionKey, parseKeyRing } from '../../src/primitives/key-ring.ts'
import type { Scope } from '../../src/scopes.ts'
import { serve } from '../support/api.ts'
import { ended, get, post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { asRole } from '../support/database.ts'
import { dump } from '../support/dump.ts'
import { openJobs } from '../support/jobs.ts'
import { freePort } from '../support/program.ts'
import { startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { handlers, isolated, operations, perform, performed, seen, settled } from './fixtures/sealed-operations.ts'

const config = join(import.meta.dirname, 'fixtures/sealed.config.ts')
const key = newEncryptionKey('2026')
const card = '4111-1111-1111-1111'
const sealedMember = { $sealed: /^sealed\.2026\.[\w-]+$/ }

async function setUp(t: Test, encryptionKeys = key) {
  const api = await serve(t, { operations, encryptionKeys })
  const jobs = await openJobs(t, Object.values(operations), api.database.options.url)
  const databaseUrl = asRole(api.database.options.url, 'worker')
  return {
    ...{ ...jobs, jobs, url: api.url, accepted: api.app.accepted, databaseUrl: `${api.database.options.url}` },
    /** Starts a worker. Without a list, it claims the jobs of all operations except `payment.coalesce`. */
    work: (names?: string[], keys = encryptionKeys) =>
      jobs.work(handlers, {
        webhookAllow: ['127.0.0.0/8'],
        ...{ database: databaseUrl, encryptionKeys: keys },
        operations: names ?? Object.values(operations).flatMap(({ name }) => (name.endsWith('coalesce') ? [] : [name])),
      }),
    /** Returns the payload in the queue. */
    queued: async (id: string) =>
      (await jobs.query("select data -> 'payload' as payload from accepted_queue.job where id = $1", [id]))[0]?.payload,
    dump: () => dump(jobs.database),
  }
}

/** Serves another API on the same database. */
async function serveApi(t: Test, databaseUrl: string, encryptionKeys: string) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(acceptedPlugin, { operations, encryptionKeys, database: asRole(databaseUrl, 'api') })
  return { url: await app.listen({ host: '127.0.0.1', port: 0 }) }
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

t.test('an operator sees results sealed, also with a link', async (t) => {
  const { url, work, database } = await setUp(t)
  await work()
  const addKey = async (name: string, scopes?: Scope[]) => {
    const wanted = { name, ...(scopes && { scopes }) }
    const { key } = await database.kysely.transaction().execute((trx) => createKey(trx as never, wanted))
    return { authorization: `Bearer ${key}` }
  }
  const [ann, operator] = [await addKey('ann'), await addKey('ops', ['operate'])]
  const { links } = (await post(`${url}/payments`, { card, amount: 1 }, ann)).body
  await until(async () => (await get(links.self, ann)).body.endedAt)
  for (const [owner, receipt] of [
    [ann, RegExp(card)],
    [operator, sealedMember],
  ] as const) {
    const { page, events } = (await post(`${links.self}/links`, {}, owner)).body
    t.match((await get(links.result, owner)).body, { receipt })
    t.match((await get(page)).body, { result: { receipt } })
    t.match((await get(page.replace('?', '/result?'))).body, { receipt })
    t.equal(
      (await (await fetch(events, { headers: { accept: 'text/event-stream' } })).text()).includes(card),
      owner === ann,
    )
  }
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

t.test('a key is replaced under running processes, and nothing is lost in any order', async (t) => {
  const [old, current] = [key, newEncryptionKey('2027')]
  const isPostponed = 'select from accepted_queue.job where id = $1 and start_after > now()'
  const { url, databaseUrl, work, read, queued, query } = await setUp(t, old)
  const submit = async (to: string) => (await post(`${to}/payments`, { card, amount: 1 })).body
  const early = await submit(url)
  // First, every process gets the new key. Then the new key encrypts.
  const both = await serveApi(t, databaseUrl, `${old},${current}`)
  const last = await serveApi(t, databaseUrl, `${current},${old}`)
  t.match(await queued((await submit(both.url)).id), { card: { $sealed: /^sealed\.2026\./ } })
  const late = await submit(last.url)
  t.match(await queued(late.id), { card: { $sealed: /^sealed\.2027\./ } })

  // This worker has got no new key. The job waits, and its attempt does not count.
  const behind = await work(['payment.perform'], old)
  t.match(await ended(early.links.self), { status: 'succeeded' })
  await until(async () => (await query(isPostponed, [late.id]))[0])
  t.match(await read(late.id), { status: 'queued', error: null })
  await behind.stop()
  await query('update accepted_queue.job set start_after = now() where id = $1', [late.id])
  await work(['payment.perform'], `${current},${old}`)
  const monitor = await ended(`${last.url}/jobs/${late.id}`)
  t.match(monitor, { status: 'succeeded', attempt: 1, result: { receipt: `receipt of "${card}"` } })
  t.same((await get(`${both.url}/jobs/${late.id}`)).body.result, monitor.result)
  t.match((await get(`${url}/jobs/${late.id}`)).body.result, { receipt: { $sealed: /^sealed\.2027\./ } })
  t.same(await query('select from accepted.attempt'), [])
})

t.test('a replay is recognised with each key, and its fingerprint says nothing without a key', async (t) => {
  const current = newEncryptionKey('2027')
  const { url, databaseUrl, query } = await setUp(t)
  const body = { card, amount: 1 }
  const headers = { 'idempotency-key': 'k1' }
  const { body: job } = await post(`${url}/payments`, body, headers)
  const [{ fingerprint }] = await query('select fingerprint from accepted.idempotency_key')
  const parts = { method: 'POST', path: '/payments', query: '', mediaType: 'application/json', body }
  t.notSame(fingerprint, fingerprintOf(parts, undefined).fingerprint)
  t.same(fingerprint, fingerprintOf(parts, parseKeyRing(key)).fingerprint)
  const next = await serveApi(t, databaseUrl, `${current},${key}`)
  for (const to of [url, next.url]) {
    t.match((await post(`${to}/payments`, body, headers)).body, { id: job.id })
    const other = await post(`${to}/payments`, { card: '4000', amount: 1 }, headers)
    t.match(other, { status: 422, body: { error: { code: 'idempotency-key-reused' } } })
  }
  // From the time before the operation sealed members.
  await query("update accepted.idempotency_key set fingerprint = $1 where key = 'k1'", [
    fingerprintOf(parts, undefined).fingerprint,
  ])
  t.match((await post(`${url}/payments`, body, headers)).body, { id: job.id })

  const batch = { items: [{ operation: 'payment.perform', input: body }] }
  const { body: made } = await post(`${url}/batches`, batch, { 'idempotency-key': 'k2' })
  t.match((await post(`${next.url}/batches`, batch, { 'idempotency-key': 'k2' })).body, { id: made.id })
})

t.test('nobody can use what was sealed for another job, operation or principal', async (t) => {
  const { url, work, queued, query } = await setUp(t)
  const { body: victim } = await post(`${url}/coalesced-payments`, { card, amount: 1, order: 'b' })
  const { card: stolen } = await queued(victim.id)
  // In a request, the sealed member is only a value, and is sealed itself.
  const forged = { card: { number: '', ...stolen }, amount: 1 }
  const { body: forger } = await post(`${url}/payments`, forged)
  await work()
  await ended(forger.links.self)
  t.same(seenBy('perform', forger.id), [forged.card])
  // With SQL, it can be copied into a job, but not be opened there.
  for (const [operation, principal] of [
    ['payment.perform', 'anonymous'],
    ['payment.settle', 'mallory'],
  ]) {
    const [{ id }] = await query('select accepted.enqueue($1, $2, principal => $3) as id', [
      ...[operation, { card: stolen, amount: 1 }, principal],
    ])
    const { error } = await until(async () => {
      const [row] = await query('select error from accepted.job where id = $1 and ended_at is not null', [id])
      return row
    })
    t.match(error, { code: 'decryption-failed' })
    t.same([...seenBy('perform', id), ...seenBy('settle', id)], [])
  }
  // SQL cannot seal, so the worker accepts what is not sealed.
  const [{ id }] = await query('select accepted.enqueue($1, $2) as id', ['payment.perform', { card, amount: 1 }])
  t.match(await ended(`${url}/jobs/${id}`), { status: 'succeeded' })
  t.same(seenBy('perform', id), [card])
})

t.test('an operation with sealed members needs keys', async (t) => {
  const message = /^Operation 'payment\.perform' seals members, so it needs keys: set ENCRYPTION_KEYS/
  await t.rejects(serve(t, { operations }), { message })
  const jobs = await openJobs(t, Object.values(operations))
  await t.rejects(jobs.work(handlers), { message })
  await t.rejects(jobs.work(handlers, { encryptionKeys: 'x' }), { message: /^ENCRYPTION_KEYS must/ })
  await t.rejects(jobs.add(performed, { card, amount: 1 }), { message })
})

t.test('what does not match a schema is not shown if it is sealed', async (t) => {
  const { work, query, ended: endedRow, accepted } = await setUp(t)
  const [{ id }] = await query('select accepted.enqueue($1, $2) as id', [
    'payment.perform',
    { card: { [card]: 1 }, amount: 1 },
  ])
  const wrong = { card: { [card]: 1 }, amount: 1 } as never
  const enqueue = accepted.db.transaction().execute((trx) => accepted.enqueue(trx, performed, wrong))
  await t.rejects(enqueue, {
    message: "The payload does not match the schema of 'payment.perform': /card does not match",
  })
  await work()
  t.match(await endedRow(id), { error: { code: 'invalid-payload' } })
  const errors = await query('select error from accepted.attempt')
  t.match(errors, [
    { error: { message: /: \/card does not match$/ } },
    { error: { message: /: \/card does not match$/ } },
  ])
})

t.test('a webhook contains what the owner of the job sees', async (t) => {
  const { url, databaseUrl, work, dump } = await setUp(t)
  const receiver = await startReceiver(t)
  await run(['webhooks', 'add', receiver.url], { DATABASE_URL: databaseUrl, ENCRYPTION_KEYS: key })
  await work(['payment.perform', 'webhook.deliver'])
  const { body } = await post(`${url}/payments`, { card, amount: 1 })
  const { result } = await ended(body.links.self)
  const [request] = await receiver.arrived(1)
  t.same(JSON.parse(`${request?.body}`).data.result, result)
  t.notMatch(await dump(), card)
})

t.test('the commands need keys too, and say so in one sentence', async (t) => {
  const { databaseUrl } = await setUp(t)
  for (const command of ['api', 'worker']) {
    const { code, err, out } = await run([command, '--config', config], {
      ...{ DATABASE_URL: databaseUrl, WORKER_PORT: `${await freePort()}` },
    })
    t.equal(code, 1)
    t.match(err, /^error: Operation 'payment\.perform' seals members, so it needs keys: set ENCRYPTION_KEYS .*\n$/)
    t.notMatch(out + err, /\n {4}at /)
  }
})

t.test('the jobs of schedules, and jobs that a program has put back into the queue, are sealed', async (t) => {
  const { query, ended: endedRow, jobs, databaseUrl, dump } = await setUp(t)
  const nightly = defineSchedule({
    ...{ name: 'nightly', cron: '0 0 * * *', operation: performed },
    payload: { card, amount: 1, order: 'declined' },
  })
  const worker = await jobs.work(defineHandlers({ performed, nightly }, { 'payment.perform': perform }), {
    ...{ database: databaseUrl, encryptionKeys: key },
  })
  await query('update accepted.schedule set next_at = now()')
  const findJob = 'select id from accepted.job where retry_of is not distinct from $1 and ended_at is not null'
  const { id } = await until(async () => (await query(findJob, [null]))[0])
  t.match((await endedRow(id)).payload, { card: sealedMember })
  t.same(new Set(seenBy('perform', id)), new Set([card]))
  await query(
    `update accepted_queue.job set state = 'retry', retry_limit = retry_limit + 1, completed_on = null, start_after = now()
    where id = $1`,
    [id],
  )
  const retry = await until(async () => (await query(findJob, [id]))[0])
  t.same(new Set(seenBy('perform', retry.id)), new Set([card]))
  t.notMatch(await dump(), card)
  await worker.stop()
})

t.test('a large result is decrypted in every answer', async (t) => {
  const { url, work, read } = await setUp(t)
  await work(['payment.perform'])
  const { body } = await post(`${url}/payments`, { card: card.repeat(5_000), amount: 1 })
  const monitor = await ended(body.links.self)
  t.same(monitor.result, { receipt: `receipt of "${card.repeat(5_000)}"` })
  t.same((await get(body.links.result)).body, monitor.result)
  t.match((await read(body.id)).result, { receipt: sealedMember })
  const events = await (await fetch(`${url}/jobs/${body.id}/events`)).text()
  t.ok(events.includes(JSON.stringify(monitor.result)))
})
