import { sql } from 'kysely'
import { useGenericPlan } from '../db/plan-settings.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { uuid7 } from '../primitives/uuid.ts'
import type { PgBoss } from '../queue/boss.ts'
import { enqueue } from './enqueue.ts'
import { newRetry, type RetryableJob, retryableColumns } from './retryable-job.ts'

/** Which failed jobs to redrive. */
export interface RedriveFilter {
  operation?: string | undefined
  /** Only jobs that failed at or after this time. */
  since?: Date | undefined
  /** Only jobs whose error has this code. */
  error?: string | undefined
}

export interface RedriveOptions extends RedriveFilter {
  /** Redrives only jobs with a greater id. Pass the `last` of the previous batch. */
  after?: string | undefined
  /** Maximum number of failed jobs to read. */
  batchSize: number
  /** Maximum number of new jobs. */
  maxRedriven: number
  /** If true, reads the failed jobs but creates no new jobs. */
  dryRun?: boolean
}

/** A batch of failed jobs, grouped by what was done with them. */
export interface RedriveBatch {
  /** The jobs that run again. With `dryRun`, the jobs that would run again. */
  redriven: RetryableJob[]
  /** Skipped: a retry of the job is pending, has succeeded, or has failed and can be redriven itself. */
  alreadyRetried: RetryableJob[]
  /** Skipped: the operation is no longer defined. */
  unknownOperation: RetryableJob[]
  /** Skipped: the payload was lost, because the row of the job was deleted or emptied directly in the queue's table. */
  missingPayload: RetryableJob[]
  /** The id of the last job in this batch. Undefined when no failed jobs are left. */
  last: string | undefined
}

const minId = '00000000-0000-0000-0000-000000000000'

/**
 * Runs a batch of failed jobs again, oldest first. Within the transaction, it enqueues a new job with `retry_of` for
 * each failed job. Repeated or concurrent calls create only one retry per job, because the rows of the failed jobs are
 * locked, and jobs that already have a retry are skipped.
 */
export async function redrive(
  boss: PgBoss,
  trx: AnyTransaction,
  operations: ReadonlyMap<string, Operation>,
  options: RedriveOptions,
): Promise<RedriveBatch> {
  await useGenericPlan(trx)
  const failed = await findFailed(trx, options)
  // This must be a separate statement. The statement that waited for the locks sees the jobs as they were before the
  // wait.
  const retriedIds = await findRetried(trx, failed)
  const batch: RedriveBatch = {
    redriven: [],
    alreadyRetried: [],
    unknownOperation: [],
    missingPayload: [],
    last: undefined,
  }
  for (const job of failed) {
    if (batch.redriven.length === options.maxRedriven) break
    batch.last = job.id
    if (retriedIds.has(job.id)) batch.alreadyRetried.push(job)
    else if (!operations.has(job.operation)) batch.unknownOperation.push(job)
    else if (!job.has_payload) batch.missingPayload.push(job)
    else batch.redriven.push(job)
  }
  if (!options.dryRun && batch.redriven.length > 0) {
    const retries = batch.redriven.map((job) => newRetry(job, operations.get(job.operation) as Operation, uuid7()))
    await enqueue(boss, trx, retries)
  }
  return batch
}

async function findFailed(trx: AnyTransaction, options: RedriveOptions): Promise<RetryableJob[]> {
  const { operation = null, since = null, error = null, after = minId, batchSize, dryRun } = options
  const { rows } = await sql<RetryableJob>`
    select ${retryableColumns} from accepted.job
    where status = 'failed' and id > ${after} and expires_at > now()
      and (${operation}::text is null or operation = ${operation})
      and (${since}::timestamptz is null or ended_at >= ${since})
      and (${error}::text is null or error ->> 'code' = ${error})
    order by id limit ${batchSize} ${dryRun ? sql`` : sql`for update`}`.execute(trx)
  return rows
}

/**
 * Finds the failed jobs that already have a retry, or a retry of a retry. A canceled retry does not count. A failed
 * retry without a payload does not count either, because it cannot be redriven in place of the job.
 */
async function findRetried(trx: AnyTransaction, failed: readonly RetryableJob[]): Promise<Set<string>> {
  if (failed.length === 0) return new Set()
  const { rows } = await sql<{ first: string }>`
    with recursive retry (first, id, status, payload) as (
      select retry_of, id, status, payload from accepted.job where retry_of = any(${failed.map(({ id }) => id)}::uuid[])
      union all
      select retry.first, job.id, job.status, job.payload
      -- Without the offset, a plan that was made for an empty table may read all retries instead of looking them up.
      from retry cross join lateral (select * from accepted.job where job.retry_of = retry.id offset 0) as job
    )
    select distinct first from retry
    where status <> 'canceled' and not (status = 'failed' and payload is null)`.execute(trx)
  return new Set(rows.map(({ first }) => first))
}
