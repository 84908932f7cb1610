import { RetryAfter } from 'accepted/worker'
import t from 'tap'
import { createQuarantine, pruneQuarantine } from '../../../worker/maintenance/quarantine.ts'
import type { PausableWorker } from '../../../worker/maintenance/quarantine-groups.ts'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { createOperationWorker } from '../../support/operation-worker.ts'
import { until } from '../../support/until.ts'
import { cancel, untilRunning } from '../support.ts'
import {
  addToQuarantine,
  addWords,
  claimAndDie,
  createRecordingHandlers,
  handlersOf,
  often,
  once,
  type Perform,
} from './support.ts'

// The tests mostly wait until a worker has checked its connection, so they run in parallel.
t.jobs = 4

/** Blocks the queue rows of all jobs, as the rescue does when it puts a job into quarantine. */
const blockAll = (jobs: Jobs) => jobs.query('update accepted_queue.job set blocked = true')

/** Creates a stub of a claim loop without jobs. */
const idleLoop = (run: PausableWorker['loop']['run']): PausableWorker['loop'] => ({
  pause: async () => {},
  resume() {},
  isSettled: () => true,
  maxClaims: 10,
  run,
})

t.test('a quarantined job uses up no attempt when it is released, and one attempt when it fails', async (t) => {
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

t.test('a worker does not run a quarantined job that another process has reserved', async (t) => {
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

t.test('the longer quarantined jobs wait, the more processes run them, up to half of all processes', async (t) => {
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
  t.same(ran, [], 'with so few processes, only one process may run quarantined jobs')
  await jobs.query(`
    insert into accepted.worker (id, host, pid, version, operations)
    select accepted.uuid7(), 'host', n, '0', '{}' from generate_series(1, 4) n`)
  await runQuarantined()
  t.same(ran, [waiting])
})

t.test('quarantined jobs that were rescued together run in groups, and no other job runs at that time', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const groupOf = async (size: number, crashedAt: string) => {
    const ids = [...(await addWords(jobs, once, size)), ...(await addWords(jobs, often, size))]
    for (const id of ids) await addToQuarantine(jobs, id, { crashedAt, groupSize: size })
    return ids
  }
  const three = await groupOf(3, "'2026-01-02 00:00Z'")
  const one = await groupOf(1, "'2026-01-01 00:00Z'")
  await blockAll(jobs)
  const others = await addWords(jobs, often, 20)
  const { concurrentJobs, handlers } = createRecordingHandlers()
  await jobs.work(handlers)
  for (const id of [...three, ...one, ...others]) t.match(await jobs.ended(id), { status: 'succeeded' })
  const max = (ids: string[]) => Math.max(...ids.map((id) => concurrentJobs.get(id) as number))
  t.equal(max(one), 0, 'no other job ran at the same time')
  t.equal(max(three), 2, 'two other jobs ran at the same time')
  t.ok(max(others) > 2)
})

t.test(
  'after its turn, a process runs its other jobs first, and without other jobs the next group at once',
  async (t) => {
    const jobs = await openJobs(t, [once])
    const worker = createOperationWorker(t, jobs, once)
    for (const id of await addWords(jobs, once, 3)) await addToQuarantine(jobs, id, {})
    await blockAll(jobs)
    let isSettled = true
    let runCount = 0
    const run = async () => {
      runCount += 1
      return false
    }
    const loop = { ...idleLoop(run), isSettled: () => isSettled }
    const draining = new AbortController().signal
    const runTurn = createQuarantine({
      database: jobs.database,
      workers: [{ worker, loop }],
      draining,
      log: worker.log,
    })
    await runTurn()
    await runTurn()
    t.equal(runCount, 2, 'no other job waits')
    isSettled = false
    await runTurn()
    t.equal(runCount, 2, 'other jobs wait')
  },
)

t.test('when a worker stops while it claims a quarantined job, the job is released', async (t) => {
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

t.test('RetryAfter takes a job out of quarantine, but a job whose claim is lost stays in quarantine', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const retried = await jobs.add(once, { word: 'a' })
  const lost = await jobs.add(often, { word: 'b' })
  await claimAndDie(jobs, once, 1)
  await claimAndDie(jobs, often, 1)
  const mayEnd = Promise.withResolvers<void>()
  t.teardown(() => mayEnd.resolve())
  let runCount = 0
  const retryOnce: Perform = async () => {
    if (++runCount === 1) throw new RetryAfter(0)
  }
  await jobs.work(handlersOf(retryOnce, () => mayEnd.promise))
  await untilRunning(jobs, lost)
  // Another worker writes this when it rescues the job.
  await jobs.query(
    "update accepted_queue.job set state = 'retry', blocked = true, start_after = 'infinity' where id = $1",
    [lost],
  )
  mayEnd.resolve()
  t.match(await jobs.ended(retried), { status: 'succeeded', attempt: 2 })
  t.match(await jobs.query('select job_id, crashes from accepted.quarantine'), [{ job_id: lost, crashes: 1 }])
})

t.test('a job that is canceled while it waits in quarantine leaves quarantine', async (t) => {
  const jobs = await openJobs(t, [once])
  const id = await jobs.add(once, { word: 'a' })
  await addToQuarantine(jobs, id, {})
  await blockAll(jobs)
  await cancel(jobs, id)
  await pruneQuarantine(jobs.database)
  t.same(await jobs.query('select from accepted.quarantine'), [])
})
