import { sql } from 'kysely'
import type { JobStatus } from '../db/tables.ts'

/**
 * Every legal transition. If the operation has no `perform`, a job can go from queued to succeeded in one step. A
 * running job returns to queued when a failed attempt will be retried, or when the job is released or rescued. A final
 * status has no transition: to retry a job that has ended, a new job with `retryOf` is created.
 */
export const transitions: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  queued: ['running', 'succeeded', 'failed', 'canceled'],
  running: ['queued', 'running', 'succeeded', 'failed', 'canceled'],
  succeeded: [],
  failed: [],
  canceled: [],
}

export const isFinal = (status: JobStatus): boolean => transitions[status].length === 0

/** The statuses that are not final. */
export const pendingStatuses = (Object.keys(transitions) as JobStatus[]).filter((status) => !isFinal(status))

/** {@link pendingStatuses} as a SQL list, for guards: `status in ${pendingStatusesSql}`. */
export const pendingStatusesSql = sql`(${sql.join(pendingStatuses.map((status) => sql.lit(status)))})`
