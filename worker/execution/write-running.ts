import { sql } from 'kysely'
import { idIn } from '../../src/jobs/job.ts'
import { pendingStatusesSql } from '../../src/jobs/status.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { type Claim, heldJobIds } from '../../src/queue/claim.ts'
import type { StatusWriter } from './job-status.ts'
import { byId, isLockedByUs, type PendingJob, pendingColumns } from './pending-jobs.ts'

/** The row of a job whose attempt has begun. */
export interface RunningJobRow extends PendingJob {
  /**
   * Whether another job holds the idempotency key in the dedup table. The record of that other job may have expired.
   */
  is_key_taken: boolean
  /** The progress of earlier attempts. */
  percent: number | null
}

/**
 * Sets jobs to running, and returns them. Leaves out three kinds of jobs: jobs that this transaction has not locked,
 * jobs whose claim is lost, and jobs whose cancellation was requested.
 */
export async function writeRunning(
  trx: AnyTransaction,
  { operation, workerId }: StatusWriter,
  claims: readonly Claim[],
): Promise<Map<string, RunningJobRow>> {
  const attempts = Object.fromEntries(claims.map(({ jobId, attempt }) => [jobId, attempt]))
  const { rows } = await sql<RunningJobRow>`
    update accepted.job set
      status = 'running', attempt = (${JSON.stringify(attempts)}::jsonb -> job.id::text)::integer,
      started_at = coalesce(started_at, statement_timestamp()), attempt_started_at = statement_timestamp(),
      worker_id = ${workerId}, progress_at = null, progress_base = null, updated_at = statement_timestamp(), sequence = sequence + 1
    where ${idIn(claims.map(({ jobId }) => jobId))} and ${isLockedByUs} and job.id = any(${heldJobIds(operation.name, claims)})
      and job.operation = ${operation.name} and job.status in ${pendingStatusesSql} and not job.cancel_requested
    returning ${pendingColumns}, job.percent, exists (
      select from accepted.processed_key processed
      where processed.operation = job.operation and processed.principal = job.principal
        and processed.key = job.idempotency_key and processed.job_id <> job.id
      -- With the offset, Postgres looks up each key. Otherwise it may read all keys of the operation.
      offset 0
    ) as is_key_taken`.execute(trx)
  return byId(rows)
}
