import { type RawBuilder, sql } from 'kysely'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { type AnyTransaction, deliveryName } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { isAnotherHeartbeatMissing } from '../../src/queue/orphans.ts'
import type { OperationWorker } from '../execution/operation-worker.ts'

/** The error of an attempt whose worker died. */
export const workerLost: JobErrorColumn = {
  code: 'worker-lost',
  message: 'The worker that ran the job died; the attempt does not count',
}

/** A job fails after this many crashes: the first while other jobs ran too, the next two while the job ran alone. */
const maxCrashes = 3

/** A job fails after this many rescues, even if the rescues do not count as crashes. */
const maxRescues = 8

const crashedAlone: JobErrorColumn = {
  code: 'worker-crashed',
  message: 'Several workers crashed while they ran the job; the last two of them ran no other job',
}

const rescuedTooOften: JobErrorColumn = {
  code: 'worker-crashed',
  message: `${maxRescues} workers died while they held the job`,
}

/** Jobs that were rescued together run in this many groups. If one of the groups dies, it is divided again. */
const groupCount = 4

/**
 * Maximum number of jobs in a group. Together with {@link groupCount}, this number bounds how many workers die while
 * they hold a job, although other jobs crash them: the first one, and one for each of the group sizes 256, 64, 16 and 4.
 * These are fewer than {@link maxRescues}.
 */
const maxGroupSize = 256

/**
 * An isolated job runs in a child process, which cannot crash the worker. But its `settle` runs in the worker. So it is
 * quarantined too after this many lost workers.
 */
const maxIsolatedLosses = 2

/**
 * If two workers die within this many seconds, both deaths are assumed to have the same cause, which is not the job.
 */
const commonCauseSeconds = 10

/** The jobs that one search has found. They may belong to several operations. */
export interface FoundTogether {
  /** Number of jobs that may have crashed their worker. */
  jobCount: number
  /** When they were found, by the clock of the database. */
  foundAt: string
}

/** Webhook deliveries are our own code, and an isolated job runs in a child process. */
export const mayCrash = ({ operation, handler }: OperationWorker): boolean =>
  operation.name !== deliveryName && handler.isolate !== 'process'

/** Returns the jobs that may have crashed the worker. An isolated job is one of them only after two lost workers. */
export async function findSuspects(
  worker: OperationWorker,
  trx: AnyTransaction,
  claims: readonly Claim[],
): Promise<readonly Claim[]> {
  if (claims.length === 0 || worker.operation.name === deliveryName) return []
  if (mayCrash(worker)) return claims
  const { rows } = await sql<{ job_id: string }>`
    select job_id from accepted.attempt
    where job_id = any(${claims.map(({ jobId }) => jobId)}::uuid[]) and error ->> 'code' = ${workerLost.code}
    group by job_id having count(*) >= ${maxIsolatedLosses}`.execute(trx)
  const ids = new Set(rows.map(({ job_id }) => job_id))
  return claims.filter(({ jobId }) => ids.has(jobId))
}

/**
 * Puts jobs into quarantine and counts the crashes of their workers. A crash counts only for a job that ran alone. It
 * does not count when it seems to have a common cause with another crash: another job has missed its heartbeats too, or
 * was quarantined in the last 10 seconds. Jobs that were quarantined at the same time as this job's previous crash are
 * ignored, because the same worker held them.
 *
 * @returns the errors of the jobs that fail
 */
export async function quarantineAndCountCrashes(
  worker: OperationWorker,
  trx: AnyTransaction,
  claims: readonly Claim[],
  { jobCount, foundAt }: FoundTogether,
): Promise<Map<string, JobErrorColumn>> {
  if (claims.length === 0) return new Map()
  const groupSize = (size: RawBuilder<unknown>) =>
    sql`greatest(1, least(ceil(${size} / ${groupCount}::float8), ${maxGroupSize}))::integer`
  const { rows } = await sql<{ job_id: string; crashes: number; rescues: number }>`
    insert into accepted.quarantine (job_id, operation, queue_id, crashes, group_size, crashed_at)
    select distinct on (job_id) job_id, ${worker.operation.name}, queue_id, 1, ${groupSize(sql`${jobCount}`)}, ${foundAt}
    from unnest(
      ${claims.map(({ jobId }) => jobId)}::uuid[],
      ${claims.map(({ queued }) => queued.id)}::uuid[]
    ) as lost (job_id, queue_id)
    on conflict on constraint quarantine_pkey do update set
      crashes = quarantine.crashes + case
        when quarantine.group_size > 1 or ${isAnotherHeartbeatMissing(sql`excluded.operation`, sql`excluded.queue_id`)} or exists (
          select from accepted.quarantine other
          where other.job_id <> excluded.job_id
            and other.crashed_at
              > greatest(quarantine.crashed_at, now() - make_interval(secs => ${commonCauseSeconds}))
        ) then 0 else 1
      end,
      group_size = ${groupSize(sql`least(quarantine.group_size, ${jobCount})`)},
      rescues = quarantine.rescues + 1, crashed_at = excluded.crashed_at, reserved_until = now(),
      queue_id = excluded.queue_id
    returning job_id, crashes, rescues`.execute(trx)
  const errorOf = ({ crashes, rescues }: { crashes: number; rescues: number }) => {
    if (crashes >= maxCrashes) return crashedAlone
    return rescues >= maxRescues ? rescuedTooOften : undefined
  }
  return new Map(
    rows.flatMap((row) => {
      const error = errorOf(row)
      return error ? [[row.job_id, error] as const] : []
    }),
  )
}
