import { sql } from 'kysely'
import { NIL } from 'uuid'
import type { AnyTransaction } from '../operation.ts'

/** Which failed jobs to redrive. */
export interface RedriveFilter {
  operation?: string | undefined
  /** Only jobs that failed at or after this time. */
  since?: Date | undefined
  /** Only jobs whose error has this code. */
  error?: string | undefined
}

export interface RedriveOptions extends RedriveFilter {
  /** The id of the last job of the previous batch. */
  after?: string | undefined
  /** Maximum number of failed jobs to read. */
  batchSize: number
  /** Maximum number of new jobs. */
  maxRedriven: number
  /** If true, reads the failed jobs but creates no new jobs. */
  dryRun?: boolean
}

/**
 * What was done with a failed job:
 * - `redriven`: it runs again as a new job. With `dryRun`, it would run again.
 * - `already-retried`: skipped, because a retry of the job is pending, has succeeded, or can be redriven itself.
 * - `unknown-operation`: skipped, because the operation is no longer defined.
 * - `missing-payload`: skipped, because the job was deleted from the queue by hand, and its payload with it.
 */
export type RedriveOutcome = 'redriven' | 'already-retried' | 'unknown-operation' | 'missing-payload'

/** A failed job, and what was done with it. */
export interface RedrivenJob {
  id: string
  operation: string
  outcome: RedriveOutcome
}

/**
 * Runs a batch of failed jobs again, with the function `accepted.redrive_batch`: the oldest job first, each as a new job
 * with `retry_of`. Repeated or concurrent calls create only one retry per job.
 *
 * @param operations the operations that the app defines
 * @returns one element per failed job; empty when no failed jobs are left
 */
export async function redrive(
  trx: AnyTransaction,
  operations: Iterable<string>,
  { operation, since, error, after, batchSize, maxRedriven, dryRun = false }: RedriveOptions,
): Promise<RedrivenJob[]> {
  const { rows } = await sql<RedrivenJob>`
    select job_id as id, job_operation as operation, outcome
    from accepted.redrive_batch(
      ${operation ?? null}, ${error ?? null}, coalesce(${since ?? null}::timestamptz, '-infinity'),
      ${[...operations]}::text[], ${after ?? NIL}::uuid, ${batchSize}::integer, ${maxRedriven}::integer, ${dryRun}
    )`.execute(trx)
  return rows
}
