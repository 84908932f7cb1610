import { defineOperation } from 'accepted'
import { defineHandlers, RetryAfter } from 'accepted/worker'
import { sql } from 'kysely'
import pg from 'pg'

import t from 'tap'
import Type from 'typebox'

import { cancelJob } from '../../../src/jobs/cancel.ts'
import type { AnyTransaction } from '../../../src/operation.ts'
import type { Claim } from '../../../src/queue/claim.ts'
import { Claims } from '../../../src/queue/claims.ts'
import { LostClaim } from '../../../src/queue/errors.ts'
import { releaseClaims } from '../../../worker/execution/release.ts'
import type { PausableWorker } from '../../../worker/maintenance/quarantine.ts'
import { createQuarantine, pruneQuarantine } from '../../../worker/maintenance/quarantine.ts'
import { registerRescues, rescueOrphaned } from '../../../worker/maintenance/rescuer.ts'

import { beginTransaction } from '../../support/database.ts'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { createOperationWorker } from '../../support/operation-worker.ts'
import { until } from '../../support/until.ts'

const Word = Type.Object({ word: Type.String() })
const once = defineOperation({ name: 'word.once', input: Word, retry: { limit: 0 } })
const often = defineOperation({ name: 'word.often', input: Word })
const operations = { once, often }

// The tests mostly wait until a worker has checked its connection.
t.jobs = 4

type TestOperation = typeof once | typeof often

/** Claims jobs and makes their heartbeat overdue, as if the worker had died. */
async function claimAndDie(jobs: Jobs, operation: TestOperation, count: number) {
  const claims = new Claims(jobs.database, jobs.boss, operation)
  const claimed = await claims.claim(count)
  if (claimed.length !== count) throw new Error(`Claimed ${claimed.length} jobs instead of ${count}`)
  await jobs.query("update accepted_queue.job set heartbeat_on = now() - interval '1 minute' where state = 'active'")
  return { claims, claimed }
}

interface QuarantineRow {
  crashes?: number
  rescues?: number
  /** An expression. Default: a minute ago. */
  crashedAt?: string
  /** Default: not reserved. */
  reservedUntil?: 'now' | 'infinity'
}

/** Writes a quarantine row, as if workers had died with the job before. */
const addToQuarantine = (
  jobs: Jobs,
  id: string,
  { crashes = 1, rescues = crashes, crashedAt = "now() - interval '1 minute'", reservedUntil = 'now' }: QuarantineRow,
) =>
  jobs.query(
    `insert into accepted.quarantine (job_id, operation, queue_id, crashes, rescues, crashed_at, reserved_until)
    select id, operation, id, $2, $3, ${crashedAt}, $4 from accepted.job where id = $1`,
    [id, crashes, rescues, reservedUntil],
  )

/** Blocks the queue rows of all jobs, as quarantine does. */
const blockAll = (jobs: Jobs) => jobs.query('update accepted_queue.job set blocked = true')

/** Creates a stub claim loop that has no jobs. */
const idleLoop = (run: PausableWorker['loop']['run']): PausableWorker['loop'] => ({
  pause: async () => {},
  resume() {},
  run,
})

type Perform = (job: { id: string; attempt: number }) => Promise<void>

const handlersOf = (onceHandler: Perform, oftenHandler: Perform = onceHandler) =>
  defineHandlers(operations, { 'word.once': { perform: onceHandler }, 'word.often': { perform: oftenHandler } })

/** Handlers that record how many other jobs ran at the same time as each job, at most. */
function createRecordingHandlers() {
  const running = new Set<string>()
  const concurrentJobs = new Map<string, number>()
  const perform: Perform = async ({ id }) => {
    running.add(id)
    for (const each of running) concurrentJobs.set(each, Math.max(concurrentJobs.get(each) ?? 0, running.size - 1))
    await new Promise((resolve) => setTimeout(resolve, 50))
    running.delete(id)
  }
  return { concurrentJobs, handlers: handlersOf(perform) }
}

t.test('The jobs of a dead worker run again, each alone, and spend no attempt', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const rescued = [await jobs.add(once, { word: 'a' }), await jobs.add(once, { word: 'b' })]
  await claimAndDie(jobs, once, 2)
  const others = await Promise.all(Array.from({ length: 40 }, () => jobs.add(often, { word: 'x' })))
  const { concurrentJobs, handlers } = createRecordingHandlers()
  await jobs.work(handlers)
  for (const id of rescued) {
    t.match(await jobs.ended(id), { status: 'succeeded', attempt: 2, max_attempts: 2 })
    t.equal(concurrentJobs.get(id), 0, 'no other job ran at the same time')
  }
  for (const id of others) await jobs.ended(id)
  t.ok(
    others.some((id) => (concurrentJobs.get(id) ?? 0) > 0),
    'the other jobs ran concurrently',
  )
  t.match(await jobs.query('select attempt, error from accepted.attempt'), [
    { attempt: 1, error: { code: 'worker-lost' } },
    { attempt: 1, error: { code: 'worker-lost' } },
  ])
  await until(async () => (await jobs.query('select from accepted.quarantine')).length === 0)
})

t.test('A dead worker loses its claim with the rescue, also after the job is claimed again', async (t) => {
  const jobs = await openJobs(t, [once])
  const id = await jobs.add(once, { word: 'a' })
  const { claims, claimed } = await claimAndDie(jobs, once, 1)
  const { database } = jobs
  const worker = createOperationWorker(t, jobs, once)
  await registerRescues(database, [once.name])
  await rescueOrphaned(database, [worker])
  t.match(await jobs.read(id), { status: 'queued', attempt: 1, max_attempts: 2 })
  const complete = (some: readonly Claim[]) =>
    database.kysely.transaction().execute((trx) => claims.complete(trx as unknown as AnyTransaction, some))
  await t.rejects(complete(claimed), LostClaim)
  t.same(await claims.claim(1), [], 'an ordinary claim does not get a quarantined job')
  const second = await claims.claimQuarantined(id)
  t.equal(await claims.claimQuarantined(id), undefined, 'it can be claimed once')
  await t.rejects(complete(claimed), LostClaim)
  await complete([second as Claim])
})

t.test('Workers take turns at checking a queue, and a failed rescue does not affect other operations', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const { database } = jobs
  const workers = [createOperationWorker(t, jobs, once), createOperationWorker(t, jobs, often)]
  const broken = await jobs.add(once, { word: 'a' })
  const other = await jobs.add(often, { word: 'b' })
  await claimAndDie(jobs, once, 1)
  await claimAndDie(jobs, often, 1)
  await registerRescues(database, ['word.once', 'word.often'])
  await jobs.query("update accepted.rescue set checked_at = 'infinity'")
  await rescueOrphaned(database, workers)
  t.same(await jobs.query('select from accepted.attempt'), [], 'another worker has just checked both queues')
  await jobs.query("update accepted.rescue set checked_at = '-infinity'")
  await jobs.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
    create trigger refuse before update on accepted.job
      for each row when (new.operation = 'word.once') execute function refuse()`)
  await rescueOrphaned(database, workers)
  t.same(await jobs.query('select job_id from accepted.attempt'), [{ job_id: other }])
  t.match(await jobs.query('select state::text from accepted_queue.job where id = $1', [broken]), [{ state: 'active' }])
})

t.test('Claims are released together, except for those that have ended, are lost, or are being settled', async (t) => {
  const jobs = await openJobs(t, [often])
  for (let count = 0; count < 200; count++) await jobs.add(often, { word: 'x' })
  const worker = createOperationWorker(t, jobs, often)
  const claimed = await worker.claims.claim(200)
  const [ended, lost, settling] = claimed.map(({ jobId }) => jobId)
  await jobs.query("update accepted.job set status = 'running'")
  await jobs.query("update accepted.job set status = 'succeeded', ended_at = now() where id = $1", [ended])
  await jobs.query('delete from accepted_queue.job where id = $1', [ended])
  await jobs.query('update accepted_queue.job set retry_count = 1 where id = $1', [lost])
  await beginTransaction(t, jobs.database, `select from accepted.job where id = '${settling}' for update`)
  let transactionCount = 0
  jobs.database.pool.on('acquire', () => {
    transactionCount += 1
  })
  await releaseClaims(worker, claimed)
  t.ok(transactionCount <= 6, `${transactionCount} transactions: the locked job is retried, the others are not`)
  t.match(
    await jobs.query("select state::text, retry_count from accepted_queue.job where state <> 'created' order by id"),
    [
      { state: 'active', retry_count: 1 },
      { state: 'active', retry_count: 0 },
    ],
  )
  t.same(await jobs.query("select count(*)::integer from accepted.job where status = 'queued'"), [{ count: 197 }])
})

t.test('A job fails when a third worker dies with it, and keeps its payload', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const id = await jobs.add(often, { word: 'a' })
  await addToQuarantine(jobs, id, { crashes: 2 })
  await claimAndDie(jobs, often, 1)
  await jobs.work(createRecordingHandlers().handlers)
  t.match(await jobs.ended(id), {
    ...{ status: 'failed', attempt: 1, max_attempts: 4, payload: { word: 'a' } },
    error: { code: 'worker-crashed' },
  })
  t.match(await jobs.query('select state::text from accepted_queue.job where id = $1', [id]), [{ state: 'failed' }])
})

for (const { effect, row, status } of [
  { effect: 'the crash of a job does not count', row: { crashes: 2 }, status: 'succeeded' },
  { effect: 'a job still fails at its eighth rescue', row: { crashes: 2, rescues: 7 }, status: 'failed' },
] as const) {
  t.test(`When two workers die at the same time, ${effect}`, async (t) => {
    const jobs = await openJobs(t, [once, often])
    const quarantined = await jobs.add(often, { word: 'a' })
    const other = await jobs.add(once, { word: 'b' })
    await addToQuarantine(jobs, quarantined, row)
    await claimAndDie(jobs, often, 1)
    await claimAndDie(jobs, once, 1)
    await jobs.work(createRecordingHandlers().handlers)
    t.match(await jobs.ended(quarantined), { status })
    t.match(await jobs.ended(other), { status: 'succeeded' })
  })
}

t.test('A crash in quarantine counts although the first crash was shared with another job', async (t) => {
  const jobs = await openJobs(t, [once])
  const killer = await jobs.add(once, { word: 'a' })
  await jobs.add(once, { word: 'b' })
  const worker = createOperationWorker(t, jobs, once)
  await registerRescues(jobs.database, [once.name])
  const rescueAll = async () => {
    await jobs.query("update accepted.rescue set checked_at = '-infinity'")
    await jobs.query("update accepted_queue.job set heartbeat_on = now() - interval '1 minute' where state = 'active'")
    await rescueOrphaned(jobs.database, [worker])
  }
  await claimAndDie(jobs, once, 2)
  await rescueAll()
  for (const crashes of [2, 3]) {
    t.ok(await worker.claims.claimQuarantined(killer))
    await rescueAll()
    t.match(await jobs.query('select crashes from accepted.quarantine where job_id = $1', [killer]), [{ crashes }])
  }
  t.match(await jobs.read(killer), { status: 'failed', error: { code: 'worker-crashed' } })
})

t.test('A rescued job does not run again if it is to be canceled or has ended', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const canceled = await jobs.add(once, { word: 'a' })
  const ended = await jobs.add(once, { word: 'b' })
  await claimAndDie(jobs, once, 2)
  await jobs.query("update accepted.job set status = 'running', cancel_requested = true where id = $1", [canceled])
  await jobs.query("update accepted.job set status = 'succeeded', ended_at = now() where id = $1", [ended])
  const { concurrentJobs, handlers } = createRecordingHandlers()
  await jobs.work(handlers)
  t.match(await jobs.ended(canceled), { status: 'canceled', payload: { word: 'a' } })
  await until(async () => (await jobs.query('select from accepted_queue.job')).length === 0)
  t.equal(concurrentJobs.size, 0, 'no handler ran')
})

t.test('A quarantined job that is released spends no attempt, and one that fails spends its own', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const id = await jobs.add(often, { word: 'a' })
  await claimAndDie(jobs, often, 1)
  let runCount = 0
  const hanging = handlersOf(async () => {
    runCount += 1
    await new Promise(() => {})
  })
  const first = await jobs.work(hanging, { graceSeconds: 0 })
  await until(() => runCount === 1)
  await first.stop()
  t.match(await jobs.query('select state::text, blocked from accepted_queue.job'), [{ state: 'retry', blocked: true }])
  t.match(await jobs.query('select crashes from accepted.quarantine'), [{ crashes: 1 }])
  t.match(await jobs.read(id), { status: 'queued', attempt: 2, max_attempts: 5 })
  await jobs.work(
    handlersOf(async ({ attempt }) => {
      if (attempt < 3) throw new Error('no')
    }),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 3, max_attempts: 5 })
  t.same(await jobs.query('select attempt, error ->> $1 as code from accepted.attempt order by attempt', ['code']), [
    { attempt: 1, code: 'worker-lost' },
    { attempt: 2, code: 'handler-error' },
  ])
})

t.test('A quarantined job that another process has reserved is left to that process', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const reserved = await jobs.add(once, { word: 'a' })
  await addToQuarantine(jobs, reserved, { reservedUntil: 'infinity' })
  const free = await jobs.add(once, { word: 'b' })
  await addToQuarantine(jobs, free, {})
  await blockAll(jobs)
  const { concurrentJobs, handlers } = createRecordingHandlers()
  await Promise.all(Array.from({ length: 4 }, () => jobs.work(handlers)))
  t.match(await jobs.ended(free), { status: 'succeeded', attempt: 1 })
  t.notOk(concurrentJobs.has(reserved), 'the reserved job did not run')
})

t.test('A job that is canceled before its turn leaves quarantine', async (t) => {
  const jobs = await openJobs(t, [once])
  const id = await jobs.add(once, { word: 'a' })
  await addToQuarantine(jobs, id, {})
  await blockAll(jobs)
  await jobs.database.kysely
    .transaction()
    .execute((trx) => cancelJob(jobs.boss, trx as unknown as AnyTransaction, { id, principal: 'ann' }))
  await pruneQuarantine(jobs.database)
  t.same(await jobs.query('select from accepted.quarantine'), [])
})

t.test('The longer quarantined jobs wait, the more processes run them, up to half of all processes', async (t) => {
  const jobs = await openJobs(t, [once])
  const worker = createOperationWorker(t, jobs, once)
  const ran: string[] = []
  const loop = idleLoop(async (claims) => ran.push(...claims.map(({ jobId }) => jobId)) > 0)
  const runQuarantined = () => {
    const draining = new AbortController().signal
    return createQuarantine({ database: jobs.database, workers: [{ worker, loop }], draining, log: worker.log })()
  }
  const reserved = await jobs.add(once, { word: 'a' })
  const waiting = await jobs.add(once, { word: 'b' })
  const crashedAt = "now() + interval '1 hour'"
  await addToQuarantine(jobs, reserved, { crashedAt, reservedUntil: 'infinity' })
  await addToQuarantine(jobs, waiting, { crashedAt })
  await blockAll(jobs)
  await runQuarantined()
  t.same(ran, [], 'the job has not waited long enough for a second process')
  await jobs.query("update accepted.quarantine set crashed_at = now() - interval '10 seconds'")
  await runQuarantined()
  t.same(ran, [], 'with so few processes, only one of them may run quarantined jobs')
  // Each LISTEN connection counts as a process.
  for (let n = 0; n < 4; n++) {
    const listener = new pg.Client({
      connectionString: jobs.database.options.url,
      application_name: `${jobs.database.options.applicationName} listen`,
    })
    await listener.connect()
    t.teardown(() => listener.end())
  }
  await runQuarantined()
  t.same(ran, [waiting])
})

t.test('A quarantined job is released when the worker stops while it claims the job', async (t) => {
  const jobs = await openJobs(t, [once])
  const id = await jobs.add(once, { word: 'a' })
  await addToQuarantine(jobs, id, {})
  await blockAll(jobs)
  const draining = new AbortController()
  const worker = createOperationWorker(t, jobs, once)
  const claimQuarantined = worker.claims.claimQuarantined.bind(worker.claims)
  worker.claims.claimQuarantined = async (queueId) => {
    const claim = await claimQuarantined(queueId)
    draining.abort()
    return claim
  }
  const loop = idleLoop(async () => {
    throw new Error('The job must not run')
  })
  const workers = [{ worker, loop }]
  await createQuarantine({ database: jobs.database, workers, draining: draining.signal, log: worker.log })()
  t.match(await jobs.query('select state::text, blocked, retry_count from accepted_queue.job'), [
    { state: 'created', blocked: true, retry_count: 0 },
  ])
  t.match(await jobs.query('select job_id from accepted.quarantine where reserved_until <= now()'), [{ job_id: id }])
})

t.test('RetryAfter takes a job out of quarantine; a job whose claim is lost meanwhile stays in it', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const retried = await jobs.add(once, { word: 'a' })
  const lost = await jobs.add(often, { word: 'b' })
  await claimAndDie(jobs, once, 1)
  await claimAndDie(jobs, often, 1)
  const gate = Promise.withResolvers<void>()
  t.teardown(() => gate.resolve())
  let runCount = 0
  const retryOnce: Perform = async () => {
    if (++runCount === 1) throw new RetryAfter(0)
  }
  await jobs.work(handlersOf(retryOnce, () => gate.promise))
  await until(async () => (await jobs.read(lost)).status === 'running')
  // Another worker rescues the job.
  await jobs.query(
    "update accepted_queue.job set state = 'retry', blocked = true, start_after = 'infinity' where id = $1",
    [lost],
  )
  gate.resolve()
  t.match(await jobs.ended(retried), { status: 'succeeded', attempt: 2 })
  t.match(await jobs.query('select job_id, crashes from accepted.quarantine'), [{ job_id: lost, crashes: 1 }])
})

t.test('A perform spends no attempt when its own database connection breaks', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const id = await jobs.add(once, { word: 'a' })
  let runCount = 0
  await jobs.work(
    defineHandlers(operations, ({ db }) => ({
      'word.once': {
        perform: async () => {
          if (++runCount === 1) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(db)
        },
      },
      'word.often': { perform: async () => {} },
    })),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1, max_attempts: 1 })
})
