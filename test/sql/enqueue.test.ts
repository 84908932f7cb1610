import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { retryJob } from '../../src/accept/retry-job.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { beginTransaction } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { sqlError } from './support.ts'

const input = Type.Object({ word: Type.String() })
const note = defineOperation({ name: 'note.create', input })
const rich = defineOperation({
  name: 'note.rich',
  input,
  ...{ priority: 5, timeoutSeconds: 30, heartbeatSeconds: 20, keepSeconds: 60 },
  retry: { limit: 7, delaySeconds: 4, backoff: true, maxDelaySeconds: 99 },
  group: ({ word }) => word,
  groupConcurrency: 1,
})
const flat = defineOperation({ name: 'note.flat', input, retry: { limit: 0, backoff: false } })
const full = defineOperation({ name: 'note.full', input, maxBacklog: 2 })
const operations = [note, rich, flat, full]

/** Reads both rows of a job. Replaces the id by a text, and each time by its distance from the creation. */
const readRows = `
  select to_jsonb(job) as job, to_jsonb(queued) as queued from accepted.job
  join accepted_queue.job queued on queued.name = job.operation and queued.id = job.id
  where job.id = $1`

function normalize(row: Record<string, unknown>, id: string, createdAt: string): Record<string, unknown> {
  const toValue = (value: unknown) => {
    if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\dT/.test(value)) return value
    return `${Math.round((Date.parse(value) - Date.parse(createdAt)) / 1000)} s after the creation`
  }
  const members = Object.entries(row).map(([name, value]) => [name, toValue(value)])
  return JSON.parse(JSON.stringify(Object.fromEntries(members)).replaceAll(id, 'the id'))
}

t.test('a job that SQL enqueues or retries has the same rows as one of TypeScript, column by column', async (t) => {
  const jobs = await openJobs(t, operations)
  const read = async (id: string) => {
    const [{ job, queued }] = (await jobs.query(readRows, [id])) as [Record<'job' | 'queued', Record<string, unknown>>]
    const createdAt = String(job.created_at)
    return { job: normalize(job, id, createdAt), queued: normalize(queued, id, createdAt) }
  }
  const payload = { word: 'x' }
  const runAt = new Date()
  for (const { name, operation, options, call } of [
    { name: 'the defaults', operation: note, options: {}, call: () => 'enqueue($1, $2)' },
    { name: 'no retries and no backoff', operation: flat, options: {}, call: () => 'enqueue($1, $2)' },
    {
      ...{ name: 'the policies and a group', operation: rich, options: {} },
      call: () => `enqueue($1, $2, group_id => 'x')`,
    },
    {
      name: 'all options',
      operation: rich,
      options: { principal: 'bob', resource: '/notes/1', runAt, priority: -2, idempotencyKey: 'k' },
      call: () => `enqueue($1, $2, idempotency_key => 'k', principal => 'bob', run_at => '${runAt.toISOString()}',
        priority => -2, resource => '/notes/1', group_id => 'x')`,
    },
  ]) {
    runAt.setTime(Date.now() + 3_600_000)
    const job = { id: uuid7(), operation, payload, principal: 'anonymous', ...options }
    await jobs.database.kysely.transaction().execute((trx) => enqueue(jobs.boss, trx, [job]))
    const [{ id }] = (await jobs.query(`select accepted.${call()} as id`, [operation.name, payload])) as [
      { id: string },
    ]
    t.same(await read(id), await read(job.id), name)

    await jobs.query('select accepted.cancel($1), accepted.cancel($2)', [id, job.id])
    const newId = uuid7()
    const request = { id: newId, jobId: job.id, owner: job.principal, principal: job.principal }
    const byName = new Map(operations.map((one) => [one.name, one]))
    await jobs.database.kysely.transaction().execute((trx) => retryJob(trx, byName, request))
    const [{ id: retryId }] = (await jobs.query('select accepted.retry($1) as id', [id])) as [{ id: string }]
    const ofTypeScript = await read(newId)
    const keyed = { retry_of: 'the first job', ...(job.idempotencyKey ? {} : { idempotency_key: 'the first job' }) }
    const ofSql = await read(retryId)
    t.equal(ofSql.job.retry_of, id)
    t.same(
      { ...ofSql, job: { ...ofSql.job, ...keyed } },
      { ...ofTypeScript, job: { ...ofTypeScript.job, ...keyed } },
      `a retry of a job with ${name}`,
    )
  }
})

t.test('SQL refuses a wrong job with a code and a way out, and keeps nothing of it', async (t) => {
  const { query } = await openJobs(t, operations)
  const invalid = (call: string, message: RegExp) => ({ call, code: '22023', message, hint: /./ })
  for (const { call, ...expected } of [
    {
      ...{ call: `enqueue('note.creat')`, code: '42704', message: /there is no operation 'note\.creat'/ },
      hint: /note\.create, note\.flat, note\.full, note\.rich, webhook\.deliver/,
    },
    { ...{ call: 'enqueue(null)', code: '42704', message: /there is no operation null/ }, hint: /note\.create/ },
    invalid(`enqueue('note.create', null)`, /payload is null/),
    invalid(`enqueue('note.create', idempotency_key => '')`, /0 characters/),
    invalid(`enqueue('note.create', idempotency_key => repeat('k', 256))`, /256 characters/),
    invalid(`enqueue('note.create', principal => '')`, /principal is empty/),
    invalid(`enqueue('note.create', principal => null)`, /principal is empty/),
    invalid(`enqueue('note.create', run_at => 'infinity')`, /infinite/),
    invalid(`enqueue('note.create', run_at => '-infinity')`, /infinite/),
    invalid(`enqueue('note.create', run_at => '280000-01-01')`, /9900/),
    invalid(`enqueue('note.create', run_at => '0044-03-15 BC')`, /9900/),
  ]) {
    t.match(await sqlError(query(`select accepted.${call}`)), expected, call)
  }
  await query(`select accepted.enqueue('note.full') from generate_series(1, 2)`)
  t.match(await sqlError(query(`select accepted.enqueue('note.full', idempotency_key => 'k')`)), {
    ...{ code: '53400', message: /2 jobs of 'note\.full' wait already/ },
    hint: /maxBacklog/,
  })
  t.same(await query('select operation from accepted.job'), [{ operation: 'note.full' }, { operation: 'note.full' }])
  t.same(await query('select from accepted.idempotency_key'), [], 'the key of a refused job stays unused')
})

t.test('a key returns the first job for the same payload, and is refused for anything else', async (t) => {
  const { query } = await openJobs(t, operations)
  const add = async (more: string) =>
    (await query(`select accepted.enqueue('note.create', idempotency_key => 'k', ${more}) as id`))[0].id
  const first = await add(`payload => '{"a": 1, "b": 2}'`)
  t.equal(await add(`payload => '{"b": 2, "a": 1}'`), first, 'the order of members does not matter')
  t.not(await add(`payload => '{"a": 1, "b": 2}', principal => 'bob'`), first, 'another principal has its own keys')
  const reused = { code: '23505', message: /key 'k' .*'anonymous'/, hint: new RegExp(first) }
  t.match(await sqlError(add(`payload => '{"a": 2}'`)), reused)
  t.match(await sqlError(query(`select accepted.enqueue('note.flat', '{"a": 1, "b": 2}', 'k')`)), reused)
  t.equal((await query('select from accepted.job')).length, 2)
  await query('select accepted.cancel($1)', [first])
  t.equal(await add(`payload => '{"a": 1, "b": 2}'`), first, 'also after the end of the job')
  await query('select accepted.expire(now())')
  t.not(await add(`payload => '{"a": 2}'`), first, 'the key is free when the record has expired')
})

t.test(
  'of two transactions with one key, the second waits for the first, and gets its job if it commits',
  async (t) => {
    const { query, database } = await openJobs(t, operations)
    const statement = `select accepted.enqueue('note.create', '{}', 'k') as id`
    for (const end of ['commit', 'rollback'] as const) {
      const first = await beginTransaction(t, database, 'select 1')
      const [{ id }] = (await first.client.query(statement)).rows
      const second = query(statement)
      await first.client.query(`select from pg_stat_activity`)
      await first.client.query(end)
      const [{ id: found }] = await second
      if (end === 'commit') t.equal(found, id)
      else t.not(found, id)
      await query(`select accepted.cancel($1)`, [found])
      await query(`select accepted.expire(now())`)
    }
  },
)

t.test('a rollback leaves nothing, and after a commit the worker runs the job at once', async (t) => {
  const jobs = await openJobs(t, [note])
  const open = await beginTransaction(t, jobs.database, `select accepted.enqueue('note.create', '{"word": "x"}', 'k')`)
  await open.client.query('rollback')
  for (const table of ['accepted.job', 'accepted_queue.job', 'accepted.idempotency_key']) {
    t.same(await jobs.query(`select from ${table}`), [], table)
  }
  const { defineHandlers } = await import('accepted/worker')
  await jobs.work(defineHandlers({ note }, { 'note.create': { perform: async () => {} } }))
  const [{ id }] = await jobs.query(`select accepted.enqueue('note.create', '{"word": "x"}') as id`)
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
  const [{ id: invalid }] = await jobs.query(`select accepted.enqueue('note.create') as id`)
  t.match(await jobs.ended(invalid), { status: 'failed', error: { code: 'invalid-payload' } })
})
