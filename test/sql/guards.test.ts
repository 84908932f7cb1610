import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../support/jobs.ts'
import { sqlError } from './support.ts'

const note = defineOperation({ name: 'note.create', input: Type.Unknown(), retry: { limit: 0 } })

t.test('moves that would damage a job are refused, with the function to use instead', async (t) => {
  const jobs = await openJobs(t, [note])
  const { query } = jobs
  const [{ id: queued }] = await query(
    `select accepted.enqueue('note.create', run_at => now() + interval '1 day') as id`,
  )
  const perform = async () => {
    throw new JobFailed('no-luck', 'No luck')
  }
  await jobs.work(defineHandlers({ note }, { 'note.create': { perform } }))
  const [{ id: failed }] = await query(`select accepted.enqueue('note.create') as id`)
  await jobs.ended(failed)
  const before = await query('select * from accepted.job order by id')
  const set = (change: string, id: string) => `update accepted.job set ${change} where id = '${id}'`
  const queueRow = (name: string, data: string) =>
    `insert into accepted_queue.job (name, data) values ('${name}', '${data}')`
  const insert = (id: string) =>
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    values ('${id}', 'note.create', 'ann', 1, now())`
  for (const [statement, hint] of [
    [set(`status = 'queued', ended_at = null, error = null`, failed), new RegExp(`accepted\\.retry\\('${failed}'\\)`)],
    [set(`status = 'succeeded', error = null`, failed), /accepted\.retry/],
    [set('id = accepted.uuid7()', queued), /accepted\.enqueue/],
    [set(`operation = 'note.other'`, queued), /accepted\.enqueue/],
    [set(`created_at = now() - interval '1 day'`, queued), /accepted\.reschedule/],
    [`delete from accepted.job where id = '${queued}'`, new RegExp(`accepted\\.cancel\\('${queued}'\\)`)],
    [insert('7b0f2c1e-2f0c-4b6e-9d3a-000000000000'), /accepted\.enqueue/],
    [insert('00000000-0000-0000-0000-000000000000'), /accepted\.enqueue/],
    [`insert into accepted_queue.job (name, data) values ('note.create', '{"a": 1}')`, /accepted\.enqueue\('note/],
    [`insert into accepted_queue.job (name) values ('note.create')`, /accepted\.enqueue/],
    [`insert into accepted_queue.job_common (name) values ('note.create')`, /accepted\.enqueue/],
    [queueRow('note.create', '{"job": "garbage"}'), /accepted\.enqueue/],
    [queueRow('note.create', '{"job": "01a00000-0000-7000-8000-000000000000"}'), /accepted\.enqueue/],
    [queueRow('note.create', `{"job": "${queued}"}`), /accepted\.enqueue/],
    [queueRow('webhook.deliver', `{"job": "${failed}"}`), /accepted\.enqueue/],
  ] as const) {
    t.match(await sqlError(query(statement)), { code: '23001', hint }, statement)
  }
  await t.rejects(jobs.boss.send('note.create', { a: 1 }), { code: '23001' }, 'pg-boss itself cannot send either')
  t.same(await query('select * from accepted.job order by id'), before)
  t.equal(
    (await query('delete from accepted.job where id = $1 returning id', [failed])).length,
    1,
    'an ended job can go',
  )
})

t.test('a change that clients see always moves the sequence and the time of the change', async (t) => {
  const { query, read } = await openJobs(t, [note])
  const [{ id }] = await query(`select accepted.enqueue('note.create') as id`)
  const microseconds = async () => {
    const [{ at }] = await query('select (extract(epoch from updated_at) * 1e6)::float8 as at from accepted.job')
    return at
  }
  for (const change of [
    `message = 'by hand'`,
    'percent = 5',
    `status = 'running'`,
    `resource = '/x'`,
    'attempt = 1',
    'coalesced = 1',
  ]) {
    const [before, changedAt] = [await read(id), await microseconds()]
    await query(`update accepted.job set ${change} where id = $1`, [id])
    const after = await read(id)
    t.equal(Number(after.sequence), Number(before.sequence) + 1, change)
    t.ok((await microseconds()) > changedAt, change)
  }
  const before = await read(id)
  await query(`update accepted.job set message = 'by hand', traceparent = 'x' where id = $1`, [id])
  t.equal((await read(id)).sequence, before.sequence, 'nothing that clients see has changed')
  for (const change of ['sequence = 1', `message = 'x', sequence = sequence + 1, updated_at = '2000-01-01'`]) {
    const { sequence, updated_at } = await read(id)
    await query(`update accepted.job set ${change} where id = $1`, [id])
    const after = await read(id)
    t.ok(Number(after.sequence) > Number(sequence) && after.updated_at >= updated_at, `never back: ${change}`)
  }
})

t.test('a job without a row in the queue fails visibly, and is never completed in silence', async (t) => {
  const jobs = await openJobs(t, [note])
  await jobs.query(`insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    values (accepted.uuid7(), 'note.create', 'ann', 1, now() + interval '1 day')`)
  await jobs.query(`update accepted.reconciliation set compared_at = '-infinity'`)
  await jobs.work(defineHandlers({ note }, { 'note.create': { perform: async () => {} } }))
  const [{ id }] = await jobs.query('select id from accepted.job')
  t.match(await jobs.ended(id), { status: 'failed', error: { code: 'queue-lost' } })
})
