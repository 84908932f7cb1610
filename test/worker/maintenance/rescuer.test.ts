import t, { type Test } from 'tap'
import type { AnyTransaction } from '../../../src/operation.ts'
import type { Claim } from '../../../src/queue/claim.ts'
import { LostClaim } from '../../../src/queue/lost-claim.ts'
import type { Handler } from '../../../worker/handlers.ts'
import { registerRescues, rescueOrphaned } from '../../../worker/maintenance/rescuer.ts'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { createOperationWorker } from '../../support/operation-worker.ts'
import { until } from '../../support/until.ts'
import { addToQuarantine, addWords, claimAndDie, createRecordingHandlers, often, once } from './support.ts'

// The tests mostly wait until a worker has checked its connection, so they run in parallel.
t.jobs = 4

t.test('each of two jobs of a dead worker runs again alone, and uses up no attempt', async (t) => {
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

t.test('after the rescue of a job, its old claim is lost, and stays lost when the job is claimed again', async (t) => {
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
  t.equal(await claims.claimQuarantined(id), undefined, 'a second claim does not get the job')
  await t.rejects(complete(claimed), LostClaim)
  await complete([second as Claim])
})

t.test('workers take turns to check a queue, and a failed rescue does not affect other operations', async (t) => {
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

t.test('a job fails when the third worker that runs it dies, and the job keeps its payload', async (t) => {
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
  { effect: 'the crash does not count for the quarantined job', row: { crashes: 2 }, status: 'succeeded' },
  { effect: 'a job still fails at its eighth rescue', row: { crashes: 2, rescues: 7 }, status: 'failed' },
] as const) {
  t.test(`when two workers die at the same time, ${effect}`, async (t) => {
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

/** Creates a worker, and a function with which it rescues all running jobs at once. */
async function createRescuer(t: Test, jobs: Jobs) {
  const worker = createOperationWorker(t, jobs, once)
  await registerRescues(jobs.database, [once.name])
  const rescueAll = async () => {
    await jobs.query("update accepted.rescue set checked_at = '-infinity'")
    await jobs.query("update accepted_queue.job set heartbeat_on = now() - interval '1 minute' where state = 'active'")
    await rescueOrphaned(jobs.database, [worker])
  }
  return { worker, rescueAll }
}

t.test('a crash in quarantine counts, even if the first crash affected several jobs', async (t) => {
  const jobs = await openJobs(t, [once])
  const killer = await jobs.add(once, { word: 'a' })
  await jobs.add(once, { word: 'b' })
  const { worker, rescueAll } = await createRescuer(t, jobs)
  await claimAndDie(jobs, once, 2)
  await rescueAll()
  for (const crashes of [2, 3]) {
    t.ok(await worker.claims.claimQuarantined(killer))
    await rescueAll()
    t.match(await jobs.query('select crashes from accepted.quarantine where job_id = $1', [killer]), [{ crashes }])
  }
  t.match(await jobs.read(killer), { status: 'failed', error: { code: 'worker-crashed' } })
})

t.test('a job that crashes its worker is found in ever smaller groups, and other jobs never fail', async (t) => {
  const jobs = await openJobs(t, [once])
  const [killer, ...neighbors] = (await addWords(jobs, once, 70)) as [string, ...string[]]
  const { worker, rescueAll } = await createRescuer(t, jobs)
  await claimAndDie(jobs, once, 70)
  await rescueAll()
  for (const { groupSize, crashes } of [
    { groupSize: 18, crashes: 1 },
    { groupSize: 5, crashes: 1 },
    { groupSize: 2, crashes: 1 },
    { groupSize: 1, crashes: 1 },
    { groupSize: 1, crashes: 2 },
  ]) {
    const [row] = await jobs.query('select * from accepted.quarantine where job_id = $1', [killer])
    t.match(row, { group_size: groupSize, crashes })
    const group = await jobs.query(
      `select other.job_id from accepted.quarantine killer join accepted.quarantine other using (crashed_at, group_size)
      where killer.job_id = $1 order by other.job_id <> $1 limit $2`,
      [killer, groupSize],
    )
    t.equal(group.length, groupSize)
    for (const { job_id: id } of group) t.ok(await worker.claims.claimQuarantined(id))
    await rescueAll()
  }
  t.match(await jobs.read(killer), { status: 'failed', error: { code: 'worker-crashed' } })
  const [{ crashes, rescues }] = await jobs.query(
    'select max(crashes) as crashes, max(rescues) as rescues from accepted.quarantine where job_id <> $1',
    [killer],
  )
  t.same({ crashes, rescues }, { crashes: 1, rescues: 4 }, 'no crash counts for the jobs that ran in a group')
  t.same(await jobs.query("select from accepted.job where status = 'failed' and id = any($1)", [neighbors]), [])
})

t.test('jobs that a dead worker ran in child processes are quarantined only after two lost workers', async (t) => {
  const jobs = await openJobs(t, [once])
  const id = await jobs.add(once, { word: 'a' })
  const handler = { perform: async () => {}, isolate: 'process' } as unknown as Handler
  const worker = createOperationWorker(t, jobs, once, handler)
  await registerRescues(jobs.database, [once.name])
  for (const isQuarantined of [false, false, true]) {
    await claimAndDie(jobs, once, 1)
    await jobs.query("update accepted.rescue set checked_at = '-infinity'")
    await rescueOrphaned(jobs.database, [worker])
    t.match(await jobs.query('select blocked from accepted_queue.job'), [{ blocked: isQuarantined }])
    t.equal((await jobs.query('select from accepted.quarantine')).length, isQuarantined ? 1 : 0)
  }
  t.match(await jobs.read(id), { status: 'queued', max_attempts: 4 })
})

t.test('a rescued job that has ended or has a cancel request does not run again', async (t) => {
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
