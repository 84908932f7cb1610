import { sql } from 'kysely'
import type { JobStatus } from '../db/tables.ts'

/**
 * Every legal transition. Settling may go from queued to succeeded in one step, when the operation has no `perform`. A
 * running job returns to queued when its attempt is retried, released or rescued. The final statuses have no transition: retrying such a job creates a new one with
 * `retryOf`.
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
