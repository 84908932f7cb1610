import { setTimeout as delay } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import { createErrorReporter } from '../../src/db/error-reporter.ts'
import { type RetryPolicy, withTransactionRetry } from '../../src/db/transaction-retry.ts'
import { dutyCyclePause } from '../../src/primitives/periodic.ts'

/** Maximum number of pages that one transaction reads in each key table. These pages hold about a thousand keys. */
const maxPagesPerTransaction = 16
/**
 * Maximum number of jobs that one transaction deletes. Applies only to a day without a partition, whose jobs are
 * deleted row by row.
 */
const maxJobsPerTransaction = 1_000
/**
 * While a statement waits for a table lock, other statements wait behind it. So each statement waits at most 100 ms for
 * its lock, and runs up to three times.
 */
const lockPolicy: RetryPolicy = { maxRetries: { contention: 2 }, baseDelayMs: 1_000, maxDelayMs: 1_000 }
/**
 * Between the steps of {@link replaceDefaultPartition}, jobs of later days are rejected. So a step is tried more often.
 */
const replacePolicy: RetryPolicy = { ...lockPolicy, maxRetries: { contention: 20 } }
/** Deleting takes at most this share of the time. During the rest of the time, the disk is free for new requests. */
const maxDeletingShare = 0.1

/**
 * Replaces the default partition if it has filled up, and creates the partitions of the coming days. Drops the
 * partitions of the days whose jobs have all expired, and deletes their keys and attempts. Logs errors, for example when
 * a table stays locked; the next run tries again.
 *
 * @param stopping when it aborts, the deletion stops; the next run continues the deletion
 */
export async function maintainPartitions(
  database: Database,
  log: Logger,
  stopping: AbortSignal = new AbortController().signal,
): Promise<void> {
  try {
    await replaceDefaultPartition(database, log, stopping)
    const created = await callFunction<string>(database, sql`accepted.create_job_partitions()`, stopping)
    if (created.length > 0) log.info({ partitions: created }, 'Partitions created')
  } catch (error) {
    createErrorReporter(log)(error, 'Could not create partitions; the next run retries')
  }
  try {
    for (;;) {
      const [day] = await callFunction<string | null>(database, sql`accepted.begin_expiry()::text`, stopping)
      if (!day || !(await deleteDay(database, day, stopping))) return
      log.info({ day }, 'Deleted the expired jobs of a day')
    }
  } catch (error) {
    createErrorReporter(log)(error, 'Could not delete expired jobs; the next run retries')
  }
}

/**
 * The default partition fills up while no worker creates partitions. Attaching a partition would then make all
 * statements on jobs wait until Postgres has read it. If this worker ends between two steps, another worker continues.
 */
async function replaceDefaultPartition(database: Database, log: Logger, stopping: AbortSignal): Promise<void> {
  const next = sql`accepted.replace_default_partition()`
  for (;;) {
    const [step] = await callFunction<string | null>(database, next, stopping, replacePolicy)
    if (!step) return
    log.info({ step }, 'Replacing the filled default partition of accepted.job')
  }
}

/**
 * @returns whether the day is deleted; false when another worker is deleting, this worker stops, or a job of the day is
 *   no longer expired
 */
async function deleteDay(database: Database, day: string, stopping: AbortSignal): Promise<boolean> {
  const keys = sql`accepted.delete_keys_of_day(${day}::date, ${maxPagesPerTransaction})`
  const jobs = sql`accepted.delete_jobs_of_day(${day}::date, ${maxJobsPerTransaction})`
  return (await deleteInSteps(database, keys, stopping)) && (await deleteInSteps(database, jobs, stopping))
}

/**
 * Repeats a step, with pauses, until nothing is left to delete.
 *
 * @param step an expression: true while rows are left, false when no rows are left, null when another worker is
 *   deleting or the day is no longer expired
 * @returns whether nothing is left; false when the step returned null or the worker stops
 */
async function deleteInSteps(database: Database, step: RawBuilder<unknown>, stopping: AbortSignal): Promise<boolean> {
  while (!stopping.aborted) {
    const startedAt = performance.now()
    const [hasMore] = await callFunction<boolean | null>(database, step, stopping)
    if (!hasMore) return hasMore === false
    const pause = dutyCyclePause(performance.now() - startedAt, maxDeletingShare)
    await delay(pause, undefined, { signal: stopping }).catch(() => {})
  }
  return false
}

async function callFunction<Value>(
  { kysely }: Database,
  call: RawBuilder<unknown>,
  signal: AbortSignal,
  policy = lockPolicy,
): Promise<Value[]> {
  const { rows } = await withTransactionRetry(() => sql<{ value: Value }>`select ${call} as value`.execute(kysely), {
    ...policy,
    signal,
  })
  return rows.map(({ value }) => value)
}
