import { sql } from 'kysely'
import type { JobState } from '../db/tables.ts'

/**
 * Every legal move. A settle may go from queued to succeeded in one step, when the operation has nothing to perform;
 * a retry goes back to queued. Final is final: what comes after is a new job with `retryOf`.
 */
export const moves: Readonly<Record<JobState, readonly JobState[]>> = {
  queued: ['running', 'succeeded', 'failed', 'canceled'],
  running: ['queued', 'running', 'succeeded', 'failed', 'canceled'],
  succeeded: [],
  failed: [],
  canceled: [],
}

export const isFinal = (state: JobState): boolean => moves[state].length === 0

/** The states from which a job may still move. */
export const pendingStates = (Object.keys(moves) as JobState[]).filter((state) => !isFinal(state))

/** The same for guards in SQL: `state in ${pendingList}`. */
export const pendingList = sql`(${sql.join(pendingStates.map((state) => sql.lit(state)))})`
