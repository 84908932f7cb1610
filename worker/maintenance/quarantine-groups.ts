import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import { rowLock } from '../../src/db/locks.ts'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { isQuarantinedJobDue } from '../../src/queue/orphans.ts'
import type { ClaimLoop } from '../execution/claim-loop.ts'
import type { OperationWorker } from '../execution/operation-worker.ts'

/** An operation worker, and the methods of its claim loop that quarantine uses. */
export interface PausableWorker {
  worker: OperationWorker
  loop: Pick<ClaimLoop, 'pause' | 'resume' | 'run' | 'isSettled' | 'maxClaims'>
}

/** A row of `accepted.quarantine`. */
export interface QuarantinedJob {
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
export interface Group {
  jobs: readonly QuarantinedJob[]
  drainTimeoutSeconds: number
}

/** How long quarantined jobs run before other jobs run again, in milliseconds. */
export const turnMs = 5_000

/**
 * Before a process reserves a quarantined job, this many seconds must have passed since the job's last crash for each
 * process that already runs quarantined jobs.
 */
const secondsPerProcess = 10

/** Reserves a group of due quarantined jobs for this process. */
export async function reserveGroup(database: Database, workers: readonly PausableWorker[]): Promise<Group | undefined> {
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
export async function reserve({ kysely }: Database, jobs: readonly QuarantinedJob[], seconds: number): Promise<void> {
  if (jobs.length === 0) return
  await sql`
    update accepted.quarantine set reserved_until = now() + make_interval(secs => ${seconds})
    where job_id = any(${jobs.map(({ job_id }) => job_id)}::uuid[])`.execute(kysely)
}
