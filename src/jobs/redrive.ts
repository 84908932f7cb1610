import { sql } from 'kysely'
import type { PgBoss } from '../db/boss.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { uuid7 } from '../uuid.ts'
import { enqueue } from './enqueue.ts'
import { newRetry, type RetryableJob, retryableColumns } from './retry.ts'

/** Which failed jobs are meant. */
export interface RedriveFilter {
  operation?: string | undefined
  /** Those that have failed since then. */
  since?: Date | undefined
  /** Those whose error has this code. */
  error?: string | undefined
}

export interface RedriveOptions extends RedriveFilter {
  /** Only jobs with a greater id: the `last` of the batch before. */
  after?: string | undefined
  /** Jobs that are looked at, at most. */
  batchSize: number
  /** New jobs, at most. */
  most: number
  /** Looks only. */
  dryRun?: boolean
}

/** What became of a batch of failed jobs. */
export interface Redriven {
  /** Those that run again, or would. */
  redriven: RetryableJob[]
  /** Those that have a retry already which is pending, has succeeded, or has failed and is the one to redrive. */
  retried: RetryableJob[]
  /** Those whose operation is not defined any more. */
  operationGone: RetryableJob[]
  /** Those that ended behind our back, without a copy of what they worked on. */
  payloadNotKept: RetryableJob[]
  /** The last one that was looked at; none when there are no more. */
  last: string | undefined
}

/** Comes before every id. */
const firstId = '00000000-0000-0000-0000-000000000000'

/**
 * Runs a batch of failed jobs again, oldest first, as new jobs with `retry_of`, within the transaction. Done twice, or
 * by two at once, it makes one retry of each: the failed ones are locked, and what has a retry already is left alone.
 */
export async function redrive(
  boss: PgBoss,
  trx: AnyTransaction,
  operations: ReadonlyMap<string, Operation>,
  options: RedriveOptions,
): Promise<Redriven> {
  const failed = await findFailed(trx, options)
  // A statement of its own: one that waited for the locks would still look at the jobs as they were before the wait.
  const retried = await findRetried(trx, failed)
  const batch: Redriven = { redriven: [], retried: [], operationGone: [], payloadNotKept: [], last: undefined }
  for (const job of failed) {
    if (batch.redriven.length === options.most) break
    batch.last = job.id
    if (retried.has(job.id)) batch.retried.push(job)
    else if (!operations.has(job.operation)) batch.operationGone.push(job)
    else if (!job.has_payload) batch.payloadNotKept.push(job)
    else batch.redriven.push(job)
  }
  if (!options.dryRun && batch.redriven.length > 0) {
    const retries = batch.redriven.map((job) => newRetry(job, operations.get(job.operation) as Operation, uuid7()))
    await enqueue(boss, trx, retries)
  }
  return batch
}

async function findFailed(trx: AnyTransaction, options: RedriveOptions): Promise<RetryableJob[]> {
  const { operation = null, since = null, error = null, after = firstId, batchSize, dryRun } = options
  const { rows } = await sql<RetryableJob>`
    select ${retryableColumns} from accepted.job
    where state = 'failed' and id > ${after} and expires_at > now()
      and (${operation}::text is null or operation = ${operation})
      and (${since}::timestamptz is null or ended_at >= ${since})
      and (${error}::text is null or error ->> 'code' = ${error})
    order by id limit ${batchSize} ${dryRun ? sql`` : sql`for update`}`.execute(trx)
  return rows
}

/** Those with a retry, or a retry of a retry, that stands in for them. A canceled one does not, nor one without payload. */
async function findRetried(trx: AnyTransaction, failed: readonly RetryableJob[]): Promise<Set<string>> {
  if (failed.length === 0) return new Set()
  const { rows } = await sql<{ first: string }>`
    with recursive retry (first, id, state, payload) as (
      select retry_of, id, state, payload from accepted.job where retry_of = any(${failed.map(({ id }) => id)}::uuid[])
      union all
      select retry.first, job.id, job.state, job.payload from retry join accepted.job on job.retry_of = retry.id
    )
    select distinct first from retry
    where state <> 'canceled' and not (state = 'failed' and payload is null)`.execute(trx)
  return new Set(rows.map(({ first }) => first))
}
