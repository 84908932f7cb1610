import { type RawBuilder, sql } from 'kysely'
import { currentTransactionId } from '../../src/db/commit-check.ts'
import { type LockWait, rowLock } from '../../src/db/locks.ts'
import { type QuerySource, runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { idIn } from '../../src/jobs/job.ts'
import { pendingStatusesSql } from '../../src/jobs/status.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { AttemptedJob } from '../../src/queue/begun-job.ts'

/** The row of a job that has not ended. */
export interface PendingJob extends AttemptedJob {
  attempt_started_at: Date | null
  worker_id: string | null
  cancel_requested: boolean
  /** Seconds until the record expires. */
  kept_seconds: number
  /** The id of the transaction that read the row. */
  transaction_id: string
}

/** The select list for a {@link PendingJob}. */
export const pendingColumns = sql`
  job.id, job.principal, job.idempotency_key, job.traceparent, job.tracestate, job.attempt, job.max_attempts,
  job.attempt_started_at, job.worker_id, job.cancel_requested, job.batch, extract(epoch from job.expires_at - now())::float8 as kept_seconds,
  ${currentTransactionId} as transaction_id`

/** Indexes rows by their id. */
export const byId = <Row extends { id: string }>(rows: readonly Row[]): Map<string, Row> =>
  new Map(rows.map((row) => [row.id, row]))

/** A condition on `job`: its id is one of `ids`, and the job has not ended. */
export const isPendingIn = (ids: readonly string[]): RawBuilder<boolean> =>
  sql`${idIn(ids)} and job.status in ${pendingStatusesSql}`

/** Locks the jobs that have not ended, in the order of their ids. */
export async function lockPending(
  trx: AnyTransaction,
  ids: readonly string[],
  lockWait: LockWait = 'wait',
): Promise<Map<string, PendingJob>> {
  const { rows } = await sql<PendingJob>`
    select ${pendingColumns} from accepted.job where ${isPendingIn(ids)} order by id ${rowLock[lockWait]}`.execute(trx)
  return byId(rows)
}

/** Returns the ids of the jobs that have not ended. Takes no locks and waits for no lock. */
export async function findPending(db: QuerySource, ids: readonly string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set()
  const statement = sql<{ id: string }>`select id from accepted.job where ${isPendingIn(ids)}`
  const { rows } = await runWithGenericPlan(db, statement)
  return new Set(rows.map(({ id }) => id))
}
