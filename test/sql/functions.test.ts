import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createKey } from '../../src/jobs/api-key.ts'
import { findJob } from '../../src/jobs/read.ts'
import { createEndpoint } from '../../src/jobs/webhook-endpoint.ts'
import { maintainPartitions } from '../../worker/maintenance/partitions.ts'
import { asRole, beginTransaction, queryOnce } from '../support/database.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { sqlError } from './support.ts'

const input = Type.Object({ word: Type.String() })
const note = defineOperation({ name: 'note.create', input, retry: { limit: 1, delaySeconds: 600, backoff: false } })
const once = defineOperation({ name: 'note.once', input, retry: { limit: 0 }, keepSeconds: 3_600 })
const grouped = defineOperation({
  ...{ name: 'note.grouped', input, groupConcurrency: 1 },
  group: (payload) => (payload as { word: string }).word,
})
const operations = { note, once, grouped }

/** Performs a job. Fails, breaks or hangs if the word of the payload says so. */
async function perform({ payload, signal }: { payload: { word: string }; signal: AbortSignal }): Promise<void> {
  if (payload.word === 'fail') throw new JobFailed('no-luck', 'No luck')
  if (payload.word === 'break') throw new Error('Broken')
  if (payload.word === 'hang') await new Promise((resolve) => signal.addEventListener('abort', resolve))
}

const handlers = defineHandlers(operations, {
  'note.create': { perform },
  'note.once': { perform },
  'note.grouped': { perform },
})

/** Opens jobs without a worker. `call` runs a function of the schema `accepted` and returns its result. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, Object.values(operations))
  return {
    ...jobs,
    jobs,
    // biome-ignore lint/suspicious/noExplicitAny: a result of any type
    call: async (text: string): Promise<any> => (await jobs.query(`select accepted.${text} as result`))[0]?.result,
    add: async (word: string, more = ''): Promise<string> =>
      (await jobs.query(`select accepted.enqueue('note.create', $1${more}) as id`, [{ word }]))[0].id,
    audit: () => jobs.query('select role, principal, action, object from accepted.audit order by id'),
  }
}

const untilStatus = (jobs: Jobs, id: string, status: string) =>
  until(async () => (await jobs.read(id)).status === status)

const missing = { code: 'P0002', message: /there is no job/, hint: /accepted\.job_overview/ }
const noJob = '01a00000-0000-7000-8000-000000000000'

t.test('cancel ends a queued job at once and tells webhooks; a running job is asked', async (t) => {
  const { jobs, query, read, call, add } = await setUp(t)
  const { id: endpoint } = await jobs.database.kysely
    .transaction()
    .execute((trx) => createEndpoint(trx as never, { url: 'http://127.0.0.1:11999/' }))
  const queued = await add('x')
  t.equal(await call(`cancel('${queued}')`), 'canceled')
  t.match(await read(queued), {
    ...{ status: 'canceled', cancel_requested: true, sequence: '2', payload: { word: 'x' }, ended_at: Date },
  })
  t.match(await query(`select data -> 'payload' as payload from accepted_queue.job where name = 'webhook.deliver'`), [
    { payload: { jobId: queued, endpointId: endpoint } },
  ])
  t.equal(await call(`cancel('${queued}')`), 'canceled', 'again')
  await jobs.work(handlers, { operations: ['note.create'] })
  const running = await add('hang')
  await untilStatus(jobs, running, 'running')
  t.equal(await call(`cancel('${running}')`), 'running')
  t.match(await jobs.ended(running), { status: 'canceled', cancel_requested_at: Date, payload: { word: 'hang' } })
  const done = await add('x')
  t.match(await jobs.ended(done), { status: 'succeeded' })
  t.match(await sqlError(call(`cancel('${done}')`)), { code: '55000', message: /succeeded/, hint: /effects/ })
  const failed = await add('fail')
  await jobs.ended(failed)
  t.match(await sqlError(call(`cancel('${failed}')`)), {
    code: '55000',
    message: /failed/,
    hint: `accepted.retry('${failed}')`,
  })
  for (const id of [`'${noJob}'`, 'null']) t.match(await sqlError(call(`cancel(${id})`)), missing)
})

t.test('retry makes a new job of a failed or canceled one, and refuses any other', async (t) => {
  const { jobs, query, call, add } = await setUp(t)
  const queued = await add('x', `, resource => '/notes/1', group_id => 'g', principal => 'ann'`)
  t.match(await sqlError(call(`retry('${queued}')`)), {
    code: '55000',
    message: /is queued/,
    hint: /retries by itself/,
  })
  await call(`cancel('${queued}')`)
  const retry = await call(`retry('${queued}')`)
  t.match(await jobs.read(retry), {
    ...{ status: 'queued', retry_of: queued, idempotency_key: queued, principal: 'ann', resource: '/notes/1' },
    group_id: 'g',
  })
  await query('update accepted.job set payload = null where id = $1', [queued])
  t.match(await sqlError(call(`retry('${queued}')`)), {
    code: '55000',
    message: /payload .* was lost/,
    hint: /enqueue/,
  })
  await query('update accepted.job set expires_at = now() where id = $1', [queued])
  t.match(await sqlError(call(`retry('${queued}')`)), missing, 'the record has expired')
  t.match(await sqlError(call(`retry('${noJob}')`)), missing)
})

t.test('redrive retries what failed within the time, the oldest first, and each job once', async (t) => {
  const { jobs, query, call, add } = await setUp(t)
  await jobs.work(handlers)
  const failed: string[] = []
  for (const word of ['fail', 'fail', 'fail', 'fail']) failed.push(await add(word))
  // The ids of one millisecond are in no order.
  failed.sort()
  const other = (await query(`select accepted.enqueue('note.once', '{"word": "break"}') as id`))[0].id
  for (const id of [...failed, other]) await jobs.ended(id)
  await query('update accepted.job set ended_at = ended_at - $2::interval where id = $1', [failed[3], '2 days'])
  await query('update accepted.job set ended_at = ended_at - $2::interval where id = $1', [failed[2], '1 hour'])
  await call(`pause('note.create')`)
  await call(`pause('note.once')`)
  const redrive = async (given = '') => {
    const made = await query(`select accepted.redrive(${given}) as id`)
    return Promise.all(made.map(async ({ id }) => (await jobs.read(id)).retry_of))
  }
  t.same(await redrive(`error_code => 'handler-error'`), [other])
  t.same(await redrive(`'note.create', max_jobs => 2`), [failed[0], failed[1]])
  t.same(await redrive(`since => '10 minutes'`), [])
  t.same(await redrive(), [failed[2]])
  t.same(await redrive(), [], 'each has a retry')
  t.same(await redrive(`since => '7 days'`), [failed[3]])
  for (const [given, code] of [
    [`'note.none'`, '42704'],
    [`since => '400000 years'`, '22023'],
    [`since => '-1 second'`, '22023'],
    ['since => null', '22023'],
    ['max_jobs => 0', '22023'],
    ['max_jobs => null', '22023'],
  ]) {
    t.match(await sqlError(call(`redrive(${given})`)), { code, hint: /./ }, String(given))
  }
})

t.test('two redrives create one retry of a job, also if one reads by a snapshot of its transaction', async (t) => {
  const { jobs, query, call, add } = await setUp(t)
  await jobs.work(handlers)
  const failed = await add('fail')
  await jobs.ended(failed)
  await call(`pause('note.create')`)
  const snapshot = await beginTransaction(t, jobs.database, 'set transaction isolation level repeatable read')
  await snapshot.client.query('select from accepted.operation')
  await query('select accepted.redrive()')
  t.match(await sqlError(snapshot.client.query('select accepted.redrive()')), { code: '40001' })
  await snapshot.client.query('rollback')
  t.equal((await query('select from accepted.job where retry_of = $1', [failed])).length, 1)
})

t.test('a retry has exactly the numbers that were enqueued', async (t) => {
  const { jobs, query, call } = await setUp(t)
  const payload = '{"n": 9007199254740993, "word": "fail"}'
  await jobs.work(handlers)
  const [{ id }] = await query(`select accepted.enqueue('note.create', '${payload}') as id`)
  await jobs.ended(id)
  await call(`pause('note.create')`)
  const retry = await call(`retry('${id}')`)
  t.same(await query(`select data ->> 'payload' as payload from accepted_queue.job where id = $1`, [retry]), [
    { payload },
  ])
})

t.test('workers start nothing of a paused operation, whether it has groups or quarantined jobs', async (t) => {
  const { jobs, query, read, call, add } = await setUp(t)
  await jobs.work(handlers)
  const running = await add('hang')
  await untilStatus(jobs, running, 'running')
  await call(`pause('note.create', 'the mail server is down')`)
  await call(`pause('note.grouped')`)
  await call(`pause('note.create', 'the mail server is still down')`)
  await call(`pause('note.create')`)
  const waiting = await add('x')
  const inGroup = (await query(`select accepted.enqueue('note.grouped', '{"word": "g"}', group_id => 'g') as id`))[0].id
  const quarantined = await add('x', `, run_at => now() + interval '1 hour'`)
  await query(
    `with blocked as (update accepted_queue.job set blocked = true, start_after = now() where id = $1 returning *)
    insert into accepted.quarantine (job_id, operation, queue_id, crashes, crashed_at)
    select id, name, id, 1, now() - interval '1 minute' from blocked`,
    [quarantined],
  )
  const [{ id: free }] = await query(`select accepted.enqueue('note.once', '{"word": "x"}') as id`)
  await jobs.ended(free)
  // The worker has polled once more when this job has run.
  const [{ id: later }] = await query(
    `select accepted.enqueue('note.once', '{"word": "x"}', run_at => now() + interval '1500 ms') as id`,
  )
  await jobs.ended(later)
  for (const id of [waiting, inGroup, quarantined]) t.match(await read(id), { status: 'queued', attempt: 0 })
  t.match(await read(running), { status: 'running' }, 'a running job continues')
  t.match(await query(`select paused, paused_reason from accepted.backlog where operation = 'note.create'`), [
    { paused: true, paused_reason: 'the mail server is still down' },
  ])
  await call(`resume('note.create')`)
  await call(`resume('note.grouped')`)
  await call(`cancel('${running}')`)
  for (const id of [waiting, inGroup, quarantined]) t.match(await jobs.ended(id), { status: 'succeeded' })
  for (const act of ['pause', 'resume']) {
    t.match(await sqlError(call(`${act}('note.none')`)), { code: '42704', hint: /note\.create/ })
    t.match(await sqlError(call(`${act}(null)`)), { code: '42704' })
  }
})

t.test('reschedule and prioritize change a queued job, and refuse any other', async (t) => {
  const { jobs, query, read, call, add } = await setUp(t)
  const id = await add('x')
  const queued = async () =>
    (await query('select priority, start_after, keep_until from accepted_queue.job where id = $1', [id]))[0]
  const before = await queued()
  const at = new Date(Date.now() + 30 * 86_400_000)
  await call(`reschedule('${id}', '${at.toISOString()}')`)
  const after = await queued()
  t.same(after.start_after, at)
  t.equal(+after.keep_until - +before.keep_until, +after.start_after - +before.start_after)
  t.match(await read(id), { run_at: at, expires_at: new Date(+at + 7 * 86_400_000), sequence: '2' })
  await call(`prioritize('${id}', 9)`)
  t.equal((await queued()).priority, 9)
  await jobs.work(handlers)
  await call(`reschedule('${id}', now() - interval '1 day')`)
  t.match(await jobs.ended(id), { status: 'succeeded' })
  const hanging = await add('hang')
  await untilStatus(jobs, hanging, 'running')
  for (const call_ of [(of: string) => `reschedule(${of}, now())`, (of: string) => `prioritize(${of}, 1)`]) {
    t.match(await sqlError(call(call_(`'${id}'`))), { code: '55000', message: /succeeded/, hint: /timeline/ })
    t.match(await sqlError(call(call_(`'${hanging}'`))), { code: '55000', message: /running/ })
    t.match(await sqlError(call(call_(`'${noJob}'`))), missing)
  }
  for (const wrong of [
    `reschedule('${id}', '280000-01-01')`,
    `reschedule('${id}', null)`,
    `reschedule('${id}', 'infinity')`,
    `prioritize('${id}', null)`,
  ]) {
    t.match(await sqlError(call(wrong)), { code: '22023', hint: /./ }, wrong)
  }
  const retried = await add('break')
  await until(async () => (await read(retried)).attempt === 1 && (await read(retried)).status === 'queued')
  await call(`reschedule('${retried}', now())`)
  t.match(await jobs.ended(retried), { status: 'failed', attempt: 2 }, 'a job that waits for its retry')
})

t.test('forget deletes everything of a person, and asks before it cancels', async (t) => {
  const { jobs, query, read, call, add, audit } = await setUp(t)
  const of = (name: string) => `, principal => '${name}', idempotency_key => gen_random_uuid()::text`
  const worker = await jobs.work(handlers)
  const failed = await add('break', of('ann'))
  await until(async () => (await query('select from accepted.attempt where job_id = $1', [failed])).length === 1)
  await call(`reschedule('${failed}', now())`)
  await jobs.ended(failed)
  const done = await add('x', of('ann'))
  await jobs.ended(done)
  const kept = await add('x', of('bob'))
  await jobs.ended(kept)
  const running = await add('hang', of('ann'))
  await untilStatus(jobs, running, 'running')
  const queued = await add('x', `${of('ann')}, run_at => now() + interval '1 day'`)
  for (const name of ['ann', 'bob']) {
    await jobs.database.kysely.transaction().execute((trx) => createKey(trx as never, { name }))
  }
  const refused = await sqlError(call(`forget('ann')`))
  t.match(refused, { code: '55000', message: /2 jobs of 'ann'/, hint: /cancel_pending => true/ })
  await query(`select set_config('accepted.principal', 'ann', false)`)
  t.equal(await call(`forget('ann', cancel_pending => true)`), '3', 'the running job is asked to cancel')
  await jobs.ended(running)
  t.equal(await call(`forget('ann')`), '1')
  await worker.stop()
  for (const id of [failed, done, running, queued]) {
    t.equal(await read(id), undefined)
    t.equal(await findJob(jobs.database.kysely, id, { principal: 'ann' }), 'unknown')
  }
  t.match(await read(kept), { status: 'succeeded' })
  for (const table of ['idempotency_key', 'processed_key']) {
    t.match(await query(`select principal from accepted.${table}`), [{ principal: 'bob' }], table)
  }
  for (const table of ['accepted.attempt', 'accepted.ended_job', 'accepted_queue.job']) {
    t.same(await query(`select from ${table}`), [], table)
  }
  t.match(await query('select principal from accepted.api_key'), [{ principal: 'bob' }])
  t.notOk(JSON.stringify(await audit()).includes('"ann"'), 'in the audit, a pseudonym replaces the principal')
  t.match((await audit()).at(-1), { action: 'forget', object: /^forgotten:/ })
  const { id: endpoint } = await jobs.database.kysely
    .transaction()
    .execute((trx) => createEndpoint(trx as never, { url: 'http://127.0.0.1:11999/' }))
  await add('x', of('ann'))
  t.equal(await call(`forget('ann', cancel_pending => true)`), '1')
  t.same(await query('select from accepted.job where principal = $1', [`webhook:${endpoint}`]), [], 'delivers nothing')
  t.match(await sqlError(call(`forget('')`)), { code: '22023' })
  t.match(await sqlError(call('forget(null)')), { code: '22023' })
  t.equal(await call(`forget('nobody')`), '0')
})

t.test('expire lets records expire that ended before a time; keepSeconds does so by itself', async (t) => {
  const { jobs, query, read, call, add } = await setUp(t)
  await jobs.work(handlers)
  const early = await add('x', `, idempotency_key => 'k'`)
  await jobs.ended(early)
  const [{ id: short }] = await query(`select accepted.enqueue('note.once', '{"word": "x"}') as id`)
  const { ended_at, expires_at } = await jobs.ended(short)
  t.ok(Math.abs(+expires_at - +ended_at - 3_600_000) < 10_000, 'an hour, as its operation says')
  const [{ now }] = await query('select clock_timestamp()::text as now')
  const late = await add('x')
  await jobs.ended(late)
  const pending = await add('x', `, run_at => now() + interval '1 day'`)
  t.equal(await call(`expire('${now}', 'note.once')`), '1')
  t.equal(await call(`expire('${now}')`), '1')
  t.equal(await call(`expire('${now}')`), '0', 'they have expired already')
  for (const id of [early, short])
    t.equal(await findJob(jobs.database.kysely, id, { principal: 'anonymous' }), 'expired')
  for (const id of [late, pending])
    t.match(await findJob(jobs.database.kysely, id, { principal: 'anonymous' }), { job: { id } })
  t.match(await read(early), { sequence: /[1-9]/ }, 'the row stays until the partition is dropped')
  t.match(await sqlError(call('expire(null)')), { code: '22023', hint: /interval/ })
  t.match(await sqlError(call(`expire(now(), 'note.none')`)), { code: '42704' })
})

t.test('a record is gone (410) when its day was deleted, and unknown (404) while its day is kept', async (t) => {
  const { jobs, query } = await setUp(t)
  const find = async (at: string) => {
    const [{ id }] = await query('select accepted.uuid_floor($1::timestamptz) as id', [at])
    return findJob(jobs.database.kysely, id, { principal: 'ann' })
  }
  const day = new Date(Date.now() - 2 * 86_400_000).toISOString().slice(0, 10)
  const name = `accepted.job_${day.replaceAll('-', '')}`
  await query(`create table ${name} partition of accepted.job for values
    from (accepted.uuid_floor('${day} 00:00Z')) to (accepted.uuid_floor('${day}T23:59:59.999Z'))`)
  await query(`alter table ${name} owner to accepted_owner`)
  t.equal(await find(`${day}T12:00Z`), 'unknown')
  await maintainPartitions(jobs.database, pino({ level: 'silent' }))
  t.equal(await find(`${day}T12:00Z`), 'expired', 'no job of the day was left')
  t.equal(await find(new Date(Date.now() - 6 * 86_400_000).toISOString()), 'unknown')
  t.equal(await find('2025-01-01 12:00Z'), 'expired', 'no record is kept for so long')
  await query(`update accepted.operation set keep_seconds = 2000000000 where name = 'note.once'`)
  t.equal(await find('2025-01-01 12:00Z'), 'unknown', 'one operation keeps its records for 63 years')
  t.equal(await find(new Date().toISOString()), 'unknown')
  t.equal(await find('2100-01-01 00:00Z'), 'unknown')
})

t.test('the audit records each act with its role, and is append-only for a superuser too', async (t) => {
  const { jobs, query, call, add, audit } = await setUp(t)
  const id = await add('x')
  await call(`prioritize('${id}', 1)`)
  await call(`reschedule('${id}', now())`)
  await call(`pause('note.create')`)
  await call(`resume('note.create')`)
  await call(`cancel('${id}')`)
  const retry = await call(`retry('${id}')`)
  await call('redrive()')
  await call('expire(now())')
  const client = await jobs.database.pool.connect()
  try {
    const operator = asRole(jobs.database.options.url, 'operator')
    await queryOnce(operator, `set accepted.principal = 'boss'; select accepted.pause('note.create')`)
    await client.query(`begin; select set_config('accepted.principal', 'ann', true)`)
    await client.query('select accepted.cancel($1)', [retry])
    await client.query('commit')
  } finally {
    client.release()
  }
  const [{ role }] = await query('select current_user as role')
  const acts = [
    'prioritize',
    'reschedule',
    'pause',
    'resume',
    'cancel',
    'retry',
    'redrive',
    'expire',
    'pause',
    'cancel',
  ]
  t.match(
    await audit(),
    acts.map((action, index) => ({ role: index === 8 ? 'accepted_test_operator' : role, action })),
  )
  t.equal((await audit())[8].principal, null, 'an operator cannot name another principal')
  t.match((await audit()).at(-1), { principal: 'ann', object: retry })
  for (const wrong of [
    `update accepted.audit set action = 'x'`,
    `update accepted.audit set principal = 'eve'`,
    `update accepted.audit set principal = 'forgotten:x', role = 'x'`,
    `with one as (select id from accepted.audit where principal is null limit 1)
    update accepted.audit set principal = 'forgotten:x' where id = (select id from one)`,
    'delete from accepted.audit',
    'truncate accepted.audit',
  ]) {
    t.match(await sqlError(query(wrong)), { code: '23001', hint: /accepted\.forget/ }, wrong)
  }
  t.equal((await audit()).length, acts.length)
})
