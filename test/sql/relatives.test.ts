import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { batchOperation } from '../../src/jobs/batch.ts'
import { insertBatch, type NewChild } from '../../src/jobs/enqueue-batch.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { beginTransaction, findBlockedBackends } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

// Children and dependencies, where transactions meet or other programs interfere.
const Word = Type.Object({ word: Type.String() })
const say = defineOperation({ name: 'word.say', input: Word })
const kept = defineOperation({ name: 'word.keep', input: Word, abandon: async () => {} })

const jobs = await openJobs(t, [say, kept, batchOperation])
const { query } = jobs
const payload = { word: 'x' }
// The tests check what the commit of an end does, so the task that finds missed ends must not run.
await query("select pg_advisory_lock(hashtext('accepted.resolve_missed'))")

const addBatch = async (children: readonly NewChild[], principal = 'ann') => {
  const id = uuid7()
  await jobs.database.kysely
    .transaction()
    .execute((trx) => insertBatch(trx as unknown as AnyTransaction, { id, principal, children }))
  return id
}

const child = (more: Partial<NewChild> = {}): NewChild => ({ id: uuid7(), operation: say, payload, ...more })

/** Makes a job wait for children, as its settle does, within an open transaction. */
const awaitChildren = async (run: (text: string, values: unknown[]) => Promise<unknown>, id: string) => {
  await run("update accepted.job set status = 'running' where id = $1", [id])
  await run("delete from accepted_queue.job where name = 'word.say' and id = $1", [id])
  await run('select accepted.await_children(array[$1::uuid])', [id])
}

t.test('forget deletes a batch, although the end of its children ends it', async (t) => {
  await addBatch([child(), child()], 'forgotten')
  t.match(await query("select accepted.forget('forgotten', true) as count"), [{ count: '3' }])
})

t.test('a job ends although a job that waited for it was deleted', async (t) => {
  const awaited = await jobs.add(say, payload)
  const waiting = await jobs.add(kept, payload, { after: [awaited], principal: 'gone' })
  await query("select accepted.forget('gone', true)")
  await query('select accepted.complete_ends(array[$1::uuid])', [waiting])
  await query('insert into accepted.dependency (job_id, awaited_id) values ($1, $2) on conflict do nothing', [
    waiting,
    awaited,
  ])
  await query('delete from accepted.job where id = $1', [waiting])
  t.match(await query('select accepted.cancel($1)::text as status', [awaited]), [{ status: 'canceled' }])
  t.same(await query('select from accepted.dependency'), [])
})

t.test('a job that is canceled while it waits for others waits for nothing, also if it has abandon', async (t) => {
  const awaited = await jobs.add(say, payload)
  const waiting = await jobs.add(kept, payload, { after: [awaited] })
  await query('select accepted.cancel($1)', [waiting])
  await query('select accepted.complete_ends(array[$1::uuid])', [waiting])
  t.match(await jobs.read(waiting), { status: 'canceled', waiting_for: null })
  t.same(await query('select from accepted.dependency'), [])
})

t.test('a cancel that waits for the settle of a parent cancels its children too', async (t) => {
  const id = await jobs.add(say, payload)
  const settle = await beginTransaction(t, jobs.database, `select from accepted.job where id = '${id}' for update`)
  const canceling = query('select accepted.cancel($1)', [id])
  await until(async () => (await findBlockedBackends(query, '%accepted.cancel%')).length === 1)
  const childId = uuid7()
  await settle.client.query("select accepted.insert_job($1, 'word.say', '{}', 'ann', parent => $2)", [childId, id])
  await awaitChildren((text, values) => settle.client.query(text, values), id)
  await settle.commit()
  await canceling
  t.match(await jobs.read(childId), { status: 'canceled' })
  t.match(await jobs.read(id), { status: 'canceled', children: { total: 1, canceled: 1 } })
})

t.test('a retry that meets the cancel of its parent does not run as a child', async (t) => {
  const [first, second] = [child(), child()]
  const id = await addBatch([first, second])
  await query('select accepted.cancel($1)', [first.id])
  const retry = await beginTransaction(t, jobs.database, 'select 1')
  const { rows } = await retry.client.query('select accepted.retry($1) as id', [first.id])
  let isDone = false
  const canceling = query('select accepted.cancel($1)', [id]).finally(() => {
    isDone = true
  })
  await until(async () => isDone || (await findBlockedBackends(query, '%accepted.cancel%')).length === 1)
  await retry.commit()
  await canceling
  t.match(await jobs.read(rows[0].id), { status: 'canceled', parent: id })
  t.match(await jobs.read(id), { status: 'canceled' })
})

t.test('the row of an ended child that another program revives does not keep its parent from ending', async (t) => {
  const [first, second] = [child(), child()]
  const id = await addBatch([first, second])
  await query('select accepted.cancel($1)', [second.id])
  await query("update accepted_queue.job set state = 'created', start_after = 'infinity' where id = $1", [second.id])
  const handlers = defineHandlers(
    { say, kept },
    { 'word.say': { settle: async () => {} }, 'word.keep': { settle: async () => {} } },
  )
  const worker = await jobs.work(handlers)
  t.match(await jobs.ended(id), { status: 'failed', children: { total: 2, succeeded: 1, canceled: 1 } })
  const [{ together }] = await query(
    'select parent.xmin = child.xmin as together from accepted.job parent, accepted.job child where parent.id = $1 and child.id = $2',
    [id, first.id],
  )
  t.ok(together, 'in the commit of the last child')
  await worker.stop()
})

t.test('a transaction that ends a child and cancels another takes one lock of their parent', async (t) => {
  const first = child()
  await addBatch([first, child({ after: [first.id] }), child()])
  const end = await beginTransaction(t, jobs.database, 'select 1')
  await end.client.query("update accepted_queue.job set state = 'active' where id = $1", [first.id])
  await end.client.query(
    `update accepted.job set status = 'failed', error = '{"code": "x", "message": ""}', ended_at = now() where id = $1`,
    [first.id],
  )
  await end.client.query('select accepted.resolve_ends(array[$1::uuid], true)', [first.id])
  const { rows } = await end.client.query(
    "select from pg_locks where pid = pg_backend_pid() and locktype = 'advisory' and mode = 'ShareLock'",
  )
  t.same(rows, [], 'two transactions with the shared lock could not both take the exclusive lock')
})
