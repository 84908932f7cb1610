import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import { rowLock } from '../../src/db/locks.ts'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { pendingStatusesSql } from '../../src/jobs/status.ts'
import { settledWithin } from '../../src/primitives/timeout.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { isQuarantinedJobDue } from '../../src/queue/orphans.ts'
import type { ClaimLoop } from '../execution/claim-loop.ts'
import type { OperationWorker } from '../execution/operation-worker.ts'
import { releaseClaims } from '../execution/release.ts'

/** An operation worker, and the methods of its claim loop that quarantine uses. */
export interface PausableWorker {
  worker: OperationWorker
  loop: Pick<ClaimLoop, 'pause' | 'resume' | 'run' | 'isSettled' | 'maxClaims'>
}

export interface QuarantineOptions {
  database: Database
  workers: readonly PausableWorker[]
  /** Aborts when the worker stops claiming jobs. */
  draining: AbortSignal
  log: Logger
}

interface QuarantinedJob {
  operation: string
  queue_id: string
  job_id: string
}

interface FirstJob extends QuarantinedJob {
  /** How many jobs, this one included, may run together. */
  group_size: number
  crashed_at: string
  reserved_until: string
  /**
   * How long this process waits for its other jobs to end, in seconds. The longer the quarantined job has waited, the
   * longer this time is.
   */
  drain_timeout_seconds: number
}

/** Quarantined jobs that run together. All of them were rescued together. */
interface Group {
  jobs: readonly QuarantinedJob[]
  drainTimeoutSeconds: number
}

/** How long quarantined jobs run before other jobs run again, in milliseconds. */
const turnMs = 5_000

/**
 * Before a process reserves a quarantined job, this many seconds must have passed since the job's last crash for each
 * process that already runs quarantined jobs.
 */
const secondsPerProcess = 10

/**
 * Creates the task that runs quarantined jobs: jobs that a worker held when it died. The process first waits until its
 * other jobs have ended. Then it runs one group of quarantined jobs after another. After that, other jobs get at least
 * as much time, so that neither kind of job blocks the other. If there are no other jobs, the next group follows at
 * once. Other processes skip jobs that this process has reserved.
 *
 * The jobs that were rescued together run in four groups. If a worker dies while it runs a group, the jobs of this group
 * run in four groups again, until each job runs alone (rescuer.ts). So a job that crashes workers is alone after
 * log4(n) deaths, rounded up, if n jobs were rescued together. Another job is held by at most as many workers that die.
 */
export function createQuarantine(options: QuarantineOptions): () => Promise<void> {
  const { database, workers, draining } = options
  let nextTurnAt = 0

  const runAll = async (first: Group) => {
    const turnEndsAt = performance.now() + turnMs
    for (let next: Group | undefined = first; next; next = await reserveGroup(database, workers)) {
      const haveEnded = await runGroup(options, next.jobs)
      if (!haveEnded || draining.aborted || performance.now() > turnEndsAt) return
    }
  }

  /** The poll that starts this task has just woken the loops that have due jobs. */
  const mustRest = () => performance.now() < nextTurnAt && !workers.every(({ loop }) => loop.isSettled())

  return async () => {
    if (mustRest() || draining.aborted) return
    const first = await reserveGroup(database, workers)
    if (!first) return
    const startedAt = performance.now()
    try {
      const emptied = Promise.all(workers.map(({ loop }) => loop.pause()))
      const isEmpty = await settledWithin(emptied, first.drainTimeoutSeconds * 1000)
      if (isEmpty && !draining.aborted) await runAll(first)
      else await reserve(database, first.jobs, 0)
    } finally {
      nextTurnAt = performance.now() + Math.max(turnMs, performance.now() - startedAt)
      for (const { loop } of workers) loop.resume()
    }
  }
}

/** Reserves a group of due quarantined jobs for this process. */
async function reserveGroup(database: Database, workers: readonly PausableWorker[]): Promise<Group | undefined> {
  const first = await reserveFirst(database, workers)
  if (!first) return undefined
  const others = first.group_size > 1 ? await reserveOthers(database, workers, first) : []
  return { jobs: [first, ...others], drainTimeoutSeconds: first.drain_timeout_seconds }
}

/** Reserves a due quarantined job for this process, unless enough other processes already run quarantined jobs. */
async function reserveFirst(database: Database, workers: readonly PausableWorker[]): Promise<FirstJob | undefined> {
  // After this time, every other job has ended or timed out.
  const maxDrainSeconds = Math.max(...workers.map(({ worker }) => worker.operation.timeoutSeconds))
  const drainTimeout = sql`least(
    greatest(now() - crashed_at, make_interval(secs => ${turnMs / 1000})),
    make_interval(secs => ${maxDrainSeconds}))`
  // Picks one of the operations at random, and then its oldest job. So the many jobs of one operation do not delay the
  // few jobs of another operation.
  const statement = sql<FirstJob>`
    with reserved as materialized (
      select
        count(distinct reserved_until) as processes,
        (select greatest(count(*) / 2, 1) from accepted.live_workers()) as max_processes
      from accepted.quarantine where reserved_until > now()
    )
    update accepted.quarantine set reserved_until = now() + ${drainTimeout}
    where job_id = (
      select job_id
      from reserved, unnest(${workers.map(({ worker }) => worker.operation.name)}::text[]) as ours (name)
      cross join lateral (
        select job_id from accepted.quarantine
        where operation = name and reserved_until <= now() and not accepted.is_paused(name)
          and crashed_at <= now() - processes * make_interval(secs => ${secondsPerProcess})
          and ${isQuarantinedJobDue(sql`ours.name`, sql`queue_id`)}
        order by crashed_at limit 1 ${rowLock.skip}
      ) as oldest
      where processes < max_processes
      order by random() limit 1
    )
    returning
      operation, queue_id, job_id, group_size, crashed_at::text, reserved_until::text,
      extract(epoch from ${drainTimeout})::float8 as drain_timeout_seconds`
  return (await runWithGenericPlan(database.kysely, statement)).rows[0]
}

/**
 * Reserves jobs that run together with the first one. They were rescued together with it, and may run in groups that are
 * at least as large. A handler runs no more jobs at once than usual.
 */
async function reserveOthers(
  { kysely }: Database,
  workers: readonly PausableWorker[],
  first: FirstJob,
): Promise<QuarantinedJob[]> {
  const operations = workers.map(({ worker }) => worker.operation.name)
  const rooms = workers.map(({ loop }, index) => loop.maxClaims - (operations[index] === first.operation ? 1 : 0))
  const statement = sql<QuarantinedJob>`
    update accepted.quarantine set reserved_until = ${first.reserved_until}
    where job_id in (
      select job_id
      from unnest(${operations}::text[], ${rooms}::integer[]) as ours (name, room)
      cross join lateral (
        select job_id from accepted.quarantine
        where operation = name and crashed_at = ${first.crashed_at} and job_id <> ${first.job_id}
          and group_size >= ${first.group_size} and reserved_until <= now() and not accepted.is_paused(name)
          and ${isQuarantinedJobDue(sql`ours.name`, sql`queue_id`)}
        limit ours.room ${rowLock.skip}
      ) as other
      limit ${first.group_size - 1}
    )
    returning operation, queue_id, job_id`
  return (await runWithGenericPlan(kysely, statement)).rows
}

/** @param seconds with 0, any process can reserve the jobs */
async function reserve({ kysely }: Database, jobs: readonly QuarantinedJob[], seconds: number): Promise<void> {
  if (jobs.length === 0) return
  await sql`
    update accepted.quarantine set reserved_until = now() + make_interval(secs => ${seconds})
    where job_id = any(${jobs.map(({ job_id }) => job_id)}::uuid[])`.execute(kysely)
}

/**
 * Runs quarantined jobs in a process that runs no other job. When an attempt ends, with any outcome, it has not crashed
 * the worker. Its job then leaves quarantine in the transaction that finishes the attempt.
 *
 * @returns false when no job can be claimed, when a job has not ended, or when this worker stops
 */
async function runGroup(
  { database, workers, draining, log }: QuarantineOptions,
  jobs: readonly QuarantinedJob[],
): Promise<boolean> {
  const byOperation = Map.groupBy(jobs, ({ operation }) => operation)
  const ours = workers.filter(({ worker }) => byOperation.has(worker.operation.name))
  const claimed = new Map<PausableWorker, Claim[]>(ours.map((one) => [one, []]))
  const releaseAll = () => Promise.all([...claimed].map(([{ worker }, claims]) => releaseClaims(worker, claims)))
  const refused: QuarantinedJob[] = []
  try {
    for (const [{ worker }, claims] of claimed) {
      for (const job of byOperation.get(worker.operation.name) ?? []) {
        const claim = await worker.claims.claimQuarantined(job.queue_id)
        if (claim) claims.push(claim)
        else refused.push(job)
      }
    }
  } catch (error) {
    await releaseAll()
    throw error
  }
  // The group or the limit of a refused job may be full. It may have room again soon, so the reservation is shortened.
  await reserve(database, refused, turnMs / 1000)
  const running = jobs.filter((job) => !refused.includes(job))
  if (running.length === 0) return false
  if (draining.aborted) {
    await releaseAll()
    await reserve(database, running, 0)
    return false
  }
  log.info(
    { jobs: running.map(({ job_id }) => job_id) },
    'Running quarantined jobs apart from other jobs, because a worker died while it held them',
  )
  const times = ours.map(({ worker: { operation } }) => operation.timeoutSeconds + operation.heartbeatSeconds)
  await reserve(database, running, Math.max(...times))
  const ended = await Promise.all([...claimed].map(([{ loop }, claims]) => claims.length === 0 || loop.run(claims)))
  // Ends the reservation. A job is still in quarantine if it was released, or was rescued from this process.
  await reserve(database, running, 0)
  return ended.every(Boolean)
}

/**
 * Removes jobs from quarantine if they have ended without a run, for example because they were canceled before their
 * turn.
 */
export async function pruneQuarantine({ kysely }: Database): Promise<void> {
  // With the offset, Postgres looks up each job. Otherwise it may read the whole status table.
  const statement = sql`
    delete from accepted.quarantine
    where not exists (select from accepted.job where id = job_id and status in ${pendingStatusesSql} offset 0)`
  await runWithGenericPlan(kysely, statement)
}
