import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import { rowLock } from '../../src/db/locks.ts'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { pendingStatusesSql } from '../../src/jobs/status.ts'
import { settledWithin } from '../../src/primitives/timeout.ts'
import { isQuarantinedJobDue } from '../../src/queue/orphans.ts'
import type { ClaimLoop } from '../execution/claim-loop.ts'
import type { OperationWorker } from '../execution/operation-worker.ts'
import { releaseClaims } from '../execution/release.ts'

/** An operation worker, and the methods of its claim loop that quarantine uses. */
export interface PausableWorker {
  worker: OperationWorker
  loop: Pick<ClaimLoop, 'pause' | 'resume' | 'run'>
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
  /**
   * How long this process waits for its other jobs to end, in seconds. The longer the quarantined job has waited, the
   * longer this time is.
   */
  drain_timeout_seconds: number
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
 * other jobs have ended. Then it runs quarantined jobs one after another. After that, other jobs get at least as much
 * time, so that neither kind of job blocks the other. Other processes skip jobs that this process has reserved.
 */
export function createQuarantine(options: QuarantineOptions): () => Promise<void> {
  const { database, workers, draining } = options
  const byOperation = new Map(workers.map((one) => [one.worker.operation.name, one]))
  let nextTurnAt = 0

  const runAll = async (first: QuarantinedJob) => {
    const turnEndsAt = performance.now() + turnMs
    for (let next: QuarantinedJob | undefined = first; next; next = await reserveNext(database, workers)) {
      const hasEnded = await runAlone(options, byOperation.get(next.operation) as PausableWorker, next)
      if (!hasEnded || draining.aborted || performance.now() > turnEndsAt) return
    }
  }

  return async () => {
    if (performance.now() < nextTurnAt || draining.aborted) return
    const first = await reserveNext(database, workers)
    if (!first) return
    const startedAt = performance.now()
    try {
      const emptied = Promise.all(workers.map(({ loop }) => loop.pause()))
      const isEmpty = await settledWithin(emptied, first.drain_timeout_seconds * 1000)
      if (isEmpty && !draining.aborted) await runAll(first)
      else await reserve(database, first, 0)
    } finally {
      nextTurnAt = performance.now() + Math.max(turnMs, performance.now() - startedAt)
      for (const { loop } of workers) loop.resume()
    }
  }
}

/** Reserves a due quarantined job for this process, unless enough other processes already run quarantined jobs. */
async function reserveNext(
  database: Database,
  workers: readonly PausableWorker[],
): Promise<QuarantinedJob | undefined> {
  // After this time, every other job has ended or timed out.
  const maxDrainSeconds = Math.max(...workers.map(({ worker }) => worker.operation.timeoutSeconds))
  const drainTimeout = sql`least(
    greatest(now() - crashed_at, make_interval(secs => ${turnMs / 1000})),
    make_interval(secs => ${maxDrainSeconds}))`
  // Picks one of the operations at random, and then its oldest job. So the many jobs of one operation do not delay the
  // few jobs of another operation.
  const statement = sql<QuarantinedJob>`
    with reserved as materialized (
      select
        count(*) as processes,
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
      operation, queue_id, job_id, extract(epoch from ${drainTimeout})::float8 as drain_timeout_seconds`
  return (await runWithGenericPlan(database.kysely, statement)).rows[0]
}

/** @param seconds with 0, any process can reserve the job */
async function reserve({ kysely }: Database, { job_id }: QuarantinedJob, seconds: number): Promise<void> {
  await sql`
    update accepted.quarantine set reserved_until = now() + make_interval(secs => ${seconds})
    where job_id = ${job_id}`.execute(kysely)
}

/**
 * Runs a quarantined job in a process that runs no other job. When the attempt ends, with any outcome, it has not
 * crashed the worker. The job then leaves quarantine in the transaction that finishes the attempt.
 *
 * @returns false when the job cannot be claimed or has not ended, or when this worker stops
 */
async function runAlone(
  { database, draining, log }: QuarantineOptions,
  { worker, loop }: PausableWorker,
  job: QuarantinedJob,
): Promise<boolean> {
  const { operation } = worker
  const claim = await worker.claims.claimQuarantined(job.queue_id)
  if (!claim) {
    // The job's group may be full. The group may have room again soon, so the reservation is shortened.
    await reserve(database, job, turnMs / 1000)
    return false
  }
  if (draining.aborted) {
    await releaseClaims(worker, [claim])
    await reserve(database, job, 0)
    return false
  }
  log.info(
    { job: job.job_id, operation: operation.name },
    'Running a quarantined job alone, because a worker died while it held the job',
  )
  await reserve(database, job, operation.timeoutSeconds + operation.heartbeatSeconds)
  const hasEnded = await loop.run([claim])
  // Ends the reservation. The job is still in quarantine if it was released, or was rescued from this process.
  await reserve(database, job, 0)
  return hasEnded
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
