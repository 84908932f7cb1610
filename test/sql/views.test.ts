import { hostname } from 'node:os'
import { defineOperation, type Operation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { Claims } from '../../src/queue/claims.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { addToQuarantine } from '../worker/maintenance/support.ts'

const input = Type.Object({ word: Type.String() })
const note = defineOperation({ name: 'note.create', input, retry: { limit: 1, delaySeconds: 600, backoff: false } })
const once = defineOperation({ name: 'note.once', input, result: Type.String(), retry: { limit: 0 } })
const batch = defineOperation({ name: 'note.batch', input, keepSeconds: 30 * 86_400 })
const late = defineOperation({ name: 'note.late', input })
const operations = { note, once, batch, late }

type Performing = {
  payload: { word: string }
  signal: AbortSignal
  attempt: number
  progress(percent: number, message: string): void
}

/** Performs a job. The word of the payload says how: it fails, or breaks first and hangs then. */
async function perform({ payload, signal, attempt, progress }: Performing): Promise<void> {
  if (payload.word === 'fail') throw new JobFailed('no-luck', 'No luck')
  if (payload.word !== 'break') return
  if (attempt === 1) throw new Error('Broken')
  progress(50, 'half way')
  await new Promise((resolve) => signal.addEventListener('abort', resolve))
}

const handlers = defineHandlers(operations, {
  'note.create': { perform },
  'note.once': {
    perform: async (job) => {
      await perform(job)
      return job.payload.word
    },
  },
  'note.batch': { settle: async () => {} },
  'note.late': { perform },
})

const us = `${hostname()}:${process.pid}`

async function setUp(t: Test) {
  const jobs = await openJobs(t, Object.values(operations))
  const { query } = jobs
  return {
    ...jobs,
    jobs,
    /** Enqueues a job with SQL. `more` are further arguments of accepted.enqueue. */
    add: async ({ name }: Operation, word: string, more = ''): Promise<string> =>
      (await query(`select accepted.enqueue($1, $2${more}) as id`, [name, { word }]))[0].id,
    timeline: (id: string) =>
      query('select event, attempt, worker, detail from accepted.timeline where job_id = $1 order by at', [id]),
    overview: async (id: string) => (await query('select * from accepted.job_overview where id = $1', [id]))[0],
  }
}

/** Runs the statement that `what_to_do` contains. */
async function runAdvice({ query }: Pick<Jobs, 'query'>, advice: string): Promise<void> {
  const [statement] = advice.match(/select accepted\.\w+\('[^']+'\)/) ?? []
  if (!statement) throw new Error(`There is no statement in: ${advice}`)
  await query(statement)
}

const columnsOf: Readonly<Record<string, string>> = {
  stuck: 'job_id, operation, why, what_to_do, since',
  timeline: 'job_id, at, event, attempt, worker, detail',
  throughput: 'minute, operation, succeeded, failed, canceled, wait_p50, wait_p99, run_p50, run_p99',
  job_overview:
    'id, operation, status, principal, percent, message, attempt, max_attempts, worker, due_at, error_code, error_message, resource, parent, created_at, started_at, ended_at',
  backlog: 'operation, ready, deferred, running, oldest, paused',
  failure: 'operation, error_code, jobs, retried, not_retryable',
  storage: 'relation, day, rows, heap_bytes, index_bytes, dead_rows, last_vacuum, drops_after',
  worker_overview: 'id, worker, status, silent, running',
  schedule_overview:
    'name, operation, expression, timezone, next_at, next_fires, paused_at, paused_reason, last_at, last_job_id, last_status, requests',
  held_key: 'principal, key, job_id, operation, status, created_at, free_at',
  key_overview: 'id, name, principal, scopes, operations, prefix, status',
  delivery_log:
    'endpoint_id, delivery_id, job_id, attempt, at, http_status, error_code, error_message, duration_ms, answer',
}

t.test('the views have the columns that programs rely on, all with comments, and none shows a payload', async (t) => {
  const { jobs, query, add, ended } = await setUp(t)
  const columns = await query(`
    select relname as view, obj_description(c.oid) as view_comment, attname as name, col_description(attrelid, attnum) as comment
    from pg_class c join pg_attribute on attrelid = c.oid
    where relnamespace = 'accepted'::regnamespace and relkind = 'v' order by relname, attnum`)
  t.same(
    columns.filter(({ comment, view_comment }) => !comment || !view_comment),
    [],
  )
  t.same([...new Set(columns.map(({ view }) => view))], Object.keys(columnsOf).toSorted())
  for (const [view, expected] of Object.entries(columnsOf)) {
    const names = columns.filter((column) => column.view === view).map(({ name }) => name)
    t.equal(names.slice(0, expected.split(', ').length).join(', '), expected)
  }
  await add(once, 'secret-queued', `, idempotency_key => 'k', run_at => now() + interval '1 day'`)
  const canceled = await add(once, 'secret-canceled', `, run_at => now() + interval '1 day'`)
  await query('select accepted.cancel($1)', [canceled])
  await jobs.work(handlers)
  const succeeded = await add(once, 'secret-result')
  t.equal((await ended(succeeded)).result, 'secret-result')
  for (const view of Object.keys(columnsOf)) {
    const rows = await query(`select row.*::text as text from accepted.${view} row`)
    t.notMatch(JSON.stringify(rows), /secret/, view)
  }
})

t.test('job_overview and timeline tell the life of a job, with its worker and its last error', async (t) => {
  const { jobs, query, add, ended, read, timeline, overview } = await setUp(t)
  await jobs.work(handlers)
  const id = await add(note, 'break', ", principal => 'ann'")
  await until(async () => (await read(id)).attempt === 1 && (await read(id)).status === 'queued')
  const error = { error_code: 'handler-error', error_message: 'Broken' }
  const waiting = await overview(id)
  t.match(waiting, { status: 'queued', attempt: 1, max_attempts: 2, worker: us, paused: false, ...error })
  t.ok(waiting.due_at > new Date(Date.now() + 500_000), 'due_at is the time of the next attempt')
  const failure = { event: 'attempt failed', attempt: 1, worker: us, detail: 'handler-error: Broken' }
  const beginning = [
    { event: 'accepted', attempt: null, worker: null, detail: 'by ann' },
    { event: 'started', attempt: 1, worker: us, detail: null },
    failure,
  ]
  t.same(await timeline(id), [
    ...beginning,
    { event: 'due', attempt: null, worker: null, detail: 'waits for its next attempt' },
  ])

  await query(`select accepted.pause('note.create', 'the bank is down')`)
  t.match(await overview(id), { paused: true, paused_reason: 'the bank is down' })
  t.match((await timeline(id)).at(-1), { event: 'due', detail: 'the operation is paused' })
  await query(`select accepted.resume('note.create'), accepted.reschedule($1, now())`, [id])
  await until(async () => (await read(id)).progress_at)
  t.match(await overview(id), { status: 'running', attempt: 2, percent: 50, message: 'half way', worker: us, ...error })
  t.match((await timeline(id)).slice(3).toSorted(byEvent), [
    { event: 'due', detail: null },
    { event: 'heartbeat', attempt: 2, worker: us },
    { event: 'progress', attempt: 2, worker: us, detail: '50% half way' },
    { event: 'started', attempt: 2, worker: us },
  ])
  t.match(await query('select worker, status, silent, running::int, job_ids from accepted.worker_overview'), [
    { worker: us, status: 'ready', silent: false, running: 1, job_ids: [id] },
  ])

  await query('select accepted.cancel($1)', [id])
  await ended(id)
  const done = await overview(id)
  t.match(done, { status: 'canceled', error_code: null, due_at: null, priority: null })
  const [{ retry }] = await query('select accepted.retry($1) as retry', [id])
  await query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at, parent)
    select accepted.uuid7(), 'note.late', 'ann', 1, now(), $1`,
    [id],
  )
  const events = await timeline(id)
  t.match(
    events.filter(({ event }) => ['cancel requested', 'canceled', 'retried', 'child'].includes(event)),
    [
      { event: 'cancel requested' },
      { event: 'canceled', attempt: 2, worker: us },
      { event: 'retried', detail: new RegExp(`^as job ${retry}, which is (queued|running)$`) },
      { event: 'child', detail: /^job .*, which is queued$/ },
    ],
  )
  t.match((await timeline(retry))[0], { event: 'accepted', detail: `by ann, a retry of ${id}` })

  const deferred = await add(note, 'x', ", run_at => '2100-01-01 00:00Z'")
  t.match(await timeline(deferred), [
    { event: 'accepted', detail: /^by anonymous, to run at 2100-01-01 / },
    { event: 'due', detail: 'deferred' },
  ])
  await query('select accepted.reschedule($1, now())', [deferred])
  await ended(deferred)
  t.match((await timeline(deferred)).map(({ event }) => event).toSorted(), ['accepted', 'due', 'started', 'succeeded'])
  const failed = await add(once, 'fail')
  await ended(failed)
  t.match(await overview(failed), { status: 'failed', error_code: 'no-luck', error_message: 'No luck', due_at: null })
  t.match((await timeline(failed)).at(-1), { event: 'failed', attempt: 1, worker: us, detail: 'no-luck: No luck' })
})

const byEvent = (a: { event: string }, b: { event: string }) => a.event.localeCompare(b.event)

t.test('stuck names each job that needs intervention, and what it says helps', async (t) => {
  const { jobs, query, add, read, ended, timeline } = await setUp(t)
  const stuck = async (id: string) => (await query('select * from accepted.stuck where job_id = $1', [id]))[0]
  const claim = (operation: Operation) => new Claims(jobs.database, jobs.boss, operation).claim(10)
  /** Sets the times of a claimed job, which has a heartbeat in the future unless `times` says otherwise. */
  const setClaim = (id: string, times: string) =>
    query(`update accepted_queue.job set heartbeat_on = now() + interval '1 hour', ${times} where id = $1`, [id])
  const worker = (
    await query(`insert into accepted.worker (id, host, pid, version, operations, status, heartbeat_at)
      select accepted.uuid7(), 'host1', 7, '0', '{note.late}', 'draining', now() + interval '1 hour' returning id`)
  )[0].id

  // Nothing is wrong with these jobs.
  const healthy = await add(batch, 'x')
  await claim(batch)
  await setClaim(healthy, 'started_on = now()')
  await add(batch, 'x', ", run_at => now() + interval '1 hour'")
  await add(late, 'x')
  t.same(await query('select * from accepted.stuck'), [])

  const silent = await add(once, 'x')
  await claim(once)
  await query(`update accepted_queue.job set heartbeat_on = '2026-01-01 00:00Z' where id = $1`, [silent])
  const start = 'Start a worker that claims note.once. It rescues the job.'
  const since = new Date('2026-01-01 00:00Z')
  t.same(await stuck(silent), {
    ...{ job_id: silent, operation: 'note.once', why: 'its worker is silent', what_to_do: start, since },
    code: 'worker-silent',
  })
  await query('update accepted.job set worker_id = $2 where id = $1', [silent, worker])
  t.match(await stuck(silent), { why: 'its worker is silent: host1:7', what_to_do: start })

  const slow = await add(note, 'x')
  await claim(note)
  await setClaim(slow, "started_on = '2026-01-01 00:00Z'")
  await query('update accepted.job set worker_id = $2 where id = $1', [slow, worker])
  const { what_to_do, ...overdue } = await stuck(slow)
  t.match(overdue, {
    code: 'timed-out',
    why: 'it has run for longer than its timeout of 60 s',
    since: new Date('2026-01-01 00:01Z'),
  })
  t.match(what_to_do, /host1:7 .*pg_stat_activity/)
  await runAdvice(jobs, what_to_do)
  t.equal((await read(slow)).cancel_requested, true)
  t.equal(await stuck(slow), undefined, 'the handler has time to stop')

  await query(`update accepted.job set cancel_requested_at = '2026-01-01 00:00Z' where id = $1`, [slow])
  t.match(await stuck(slow), {
    ...{
      why: /^its handler still runs although cancellation was requested$/,
      code: 'cancel-ignored',
      what_to_do: /job\.signal.* host1:7$/,
      since,
    },
  })

  const quarantined = await add(batch, 'x')
  await addToQuarantine(jobs, quarantined, { crashedAt: "'2026-01-01 00:00Z'" })
  await query('update accepted_queue.job set blocked = true where id = $1', [quarantined])
  t.match(await timeline(quarantined), [
    { event: 'quarantined', detail: /^workers that died while they held the job: 1; .*: 1$/ },
    { event: 'accepted' },
    { event: 'due', detail: 'waits to run in quarantine' },
  ])
  const suspect = await stuck(quarantined)
  t.match(suspect, {
    code: 'quarantined',
    why: /^a worker died while it held the job; the job waits to run in quarantine$/,
    since,
  })
  await runAdvice(jobs, suspect.what_to_do)
  t.equal((await read(quarantined)).status, 'canceled')
  t.equal(await stuck(quarantined), undefined)

  await query(`select accepted.pause('note.batch', 'the bank is down')`)
  t.same(await query(`select from accepted.stuck where operation = 'note.batch'`), [], 'no job of it is due')
  const oldest = await add(batch, 'x', ", run_at => now() - interval '2 hours'")
  await add(batch, 'x')
  const [paused, ...others] = await query(`select * from accepted.stuck where operation = 'note.batch'`)
  t.match(paused, { code: 'paused', job_id: oldest, why: 'its operation is paused, and jobs wait: the bank is down' })
  t.same(
    [paused.since],
    (await query(`select paused_at from accepted.operation where paused_at is not null`)).flatMap(Object.values),
  )
  t.same(others, [], 'one job stands for the others')
  await runAdvice(jobs, paused.what_to_do)
  t.match(await stuck(oldest), { why: /no worker claims note\.batch$/ }, 'it is no longer paused, but due for long')

  const waiting = await add(late, 'x', ", run_at => '2026-01-01 00:00Z'")
  t.same(await stuck(waiting), {
    ...{
      job_id: waiting,
      operation: 'note.late',
      why: 'it has been due for more than an hour, and no worker claims note.late',
    },
    ...{ what_to_do: 'Start a worker that claims note.late.', since, code: 'no-worker' },
  })
  await jobs.work(handlers)
  for (const id of [silent, oldest, waiting]) t.match(await ended(id), { status: 'succeeded' })
  t.match(await query('select job_id from accepted.stuck'), [{ job_id: slow }])
})

t.test('failure, throughput and held_key count what has ended, however long ago it was accepted', async (t) => {
  const { jobs, query, add, ended, read } = await setUp(t)
  const throughput = (operation: Operation) =>
    query(
      `select sum(succeeded)::int as succeeded, sum(failed)::int as failed, sum(canceled)::int as canceled,
        max(wait_p50) as wait_p50, max(wait_p99) as wait_p99, max(run_p50) as run_p50, max(run_p99) as run_p99
      from accepted.throughput where operation = $1 group by operation`,
      [operation.name],
    )
  // A full minute, so that all jobs end in the same minute.
  const [{ due }] = await query(`select date_trunc('minute', now()) - interval '2 minutes' as due`)
  /** Inserts a job that was accepted two days ago and was due today. `wait` and `run` are seconds. */
  const addOld = async (wait: number, run: number, { end = '(run_at + $4)', error = null as object | null } = {}) => {
    const [{ id }] = await query(
      `insert into accepted.job (id, operation, principal, max_attempts, created_at, run_at, expires_at)
      select overlay(accepted.uuid7()::text placing left(accepted.uuid_floor(at)::text, 13) from 1)::uuid,
        'note.late', 'ann', 1, at, $1, now() + interval '1 day'
      from (select now() - interval '2 days' as at) accepted returning id`,
      [due],
    )
    await query(
      `update accepted.job set status = $2, error = $3, started_at = run_at + $5::interval, ended_at = ${end}::timestamptz
      where id = $1 and $4::interval > '0'`,
      [id, error ? 'failed' : 'succeeded', error, `${wait + run} s`, `${wait} s`],
    )
  }
  await addOld(2, 3)
  await addOld(4, 5)
  await addOld(1, 1, { end: "(now() - interval '61 minutes')" })
  await addOld(1, 1, { end: "(now() - interval '25 hours')", error: { code: 'old', message: 'Old' } })
  t.same(await throughput(late), [
    { succeeded: 2, failed: 0, canceled: 0, wait_p50: 3, wait_p99: 3.98, run_p50: 4, run_p99: 4.98 },
  ])

  const canceled = await add(
    note,
    'x',
    ", idempotency_key => 'k', principal => 'ann', run_at => now() + interval '1 day'",
  )
  const heldKey = async () => (await query(`select * from accepted.held_key where principal = 'ann' and key = 'k'`))[0]
  t.match(await heldKey(), { job_id: canceled, operation: 'note.create', status: 'queued', free_at: null })
  await query('select accepted.cancel($1)', [canceled])
  t.same(await throughput(note), [
    { succeeded: 0, failed: 0, canceled: 1, wait_p50: null, wait_p99: null, run_p50: null, run_p99: null },
  ])
  t.match(await heldKey(), { status: 'canceled', free_at: (await read(canceled)).expires_at })
  await query('delete from accepted.job where id = $1', [canceled])
  const { created_at, free_at } = await heldKey()
  t.same(free_at, created_at, 'the key is free when the record is gone')

  await jobs.work(handlers)
  for (const id of [await add(batch, 'x'), await add(batch, 'x')]) await ended(id)
  const [settled] = await throughput(batch)
  t.match(settled, { succeeded: 2, failed: 0, canceled: 0 })
  for (const name of ['wait_p50', 'wait_p99', 'run_p50', 'run_p99'])
    t.ok(settled[name] >= 0 && settled[name] < 60, name)

  const [lost, first, last] = [await add(once, 'fail'), await add(once, 'fail'), await add(once, 'fail')]
  for (const id of [lost, first, last]) await ended(id)
  await query('update accepted.job set payload = null where id = $1', [lost])
  await query('select accepted.retry($1)', [first])
  await until(
    async () =>
      (await query(`select from accepted.job where operation = 'note.once' and ended_at is null`)).length === 0,
  )
  const [row, ...others] = await query('select *, jobs::int, retried::int, not_retryable::int from accepted.failure')
  const [newest] = await query(
    `select id, ended_at from accepted.job where operation = 'note.once' order by ended_at desc limit 1`,
  )
  t.match(row, {
    ...{ operation: 'note.once', error_code: 'no-luck', jobs: 4, retried: 1, not_retryable: 1 },
    ...{ example_id: newest.id, example_message: 'No luck', last_at: newest.ended_at },
  })
  t.same(others, [], 'a failure of the day before does not count')
  t.match(await throughput(once), [{ succeeded: 0, failed: 4, canceled: 0 }])
})

t.test('backlog counts up to its bound, and storage and worker_overview show what there is', async (t) => {
  const { jobs, query, add } = await setUp(t)
  const backlog = async ({ name }: Operation) => {
    const rows = await query('select * from accepted.backlog where operation = $1', [name])
    const { ready, deferred, running, workers, quarantined, ...rest } = rows[0]
    return { ...rest, counts: [ready, deferred, running, workers, quarantined].map(Number) }
  }
  await add(batch, 'x')
  await add(batch, 'x', ", run_at => now() - interval '10 minutes'")
  await add(batch, 'x', ", run_at => now() + interval '1 day'")
  await query(`select accepted.pause('note.batch', 'the bank is down')`)
  await add(note, 'break', ', priority => 1')
  await new Claims(jobs.database, jobs.boss, note).claim(1)
  await addToQuarantine(jobs, await add(late, 'x'), {})
  await query(`update accepted_queue.job set blocked = true where name = 'note.late'`)
  for (const [status, heartbeat, host] of [
    ['ready', 'now()', 'a'],
    ['draining', 'now()', 'b'],
    ['ready', "now() - interval '1 minute'", 'c'],
  ]) {
    await query(`insert into accepted.worker (id, host, pid, version, operations, status, heartbeat_at)
      select accepted.uuid7(), '${host}', 1, '0', '{note.batch}', '${status}', ${heartbeat}`)
  }
  const { oldest, ...paused } = await backlog(batch)
  t.match(paused, { paused: true, paused_at: Date, paused_reason: 'the bank is down', counts: [2, 1, 0, 1, 0] })
  t.match(oldest.toPostgres?.() ?? oldest, /^10 minutes/)
  t.match(await backlog(note), { counts: [0, 0, 1, 0, 0], oldest: null, paused: false })
  t.match(await backlog(late), { counts: [0, 0, 0, 0, 1] })
  t.match(await query('select worker, status, silent, running::int from accepted.worker_overview'), [
    { worker: 'a:1', status: 'ready', silent: false, running: 0 },
    { worker: 'b:1', status: 'draining', silent: false, running: 0 },
    { worker: 'c:1', status: 'ready', silent: true, running: 0 },
  ])

  const fill = (count: number) =>
    query(
      `insert into accepted_queue.job (id, name, data, policy)
      select id, 'note.once', jsonb_build_object('job', id), 'standard'
      from (select accepted.uuid7() as id from generate_series(1, $1)) made`,
      [count],
    )
  const count = (ready: number) =>
    query(`update accepted_queue.queue set ready_count = $1 where name = 'note.once'`, [ready])
  await fill(9_999)
  await count(20_000)
  t.match(await backlog(once), { counts: [9_999, 0, 0, 0, 0] }, 'below the bound, the view itself counts')
  await fill(2)
  t.match(await backlog(once), { counts: [20_000, 0, 0, 0, 0] }, 'above the bound, pg-boss has counted')
  await count(0)
  t.match(await backlog(once), { counts: [10_000, 0, 0, 0, 0] }, 'pg-boss has not counted yet')

  const client = await jobs.database.pool.connect()
  await client.query("set timezone = 'America/Los_Angeles'")
  const { rows } = await client.query(`
    select day::text, heap_bytes::int > 0 as has_size, drops_after at time zone 'UTC' - day as kept
    from accepted.storage where relation = 'accepted.job_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')`)
  const [{ today }] = (await client.query(`select (now() at time zone 'UTC')::date::text as today`)).rows
  client.release(true)
  t.match(rows, [{ day: today, has_size: true }])
  t.equal(
    rows[0].kept.days ?? Number.parseInt(rows[0].kept, 10),
    31,
    'a day, and the longest time that an operation keeps',
  )
})
