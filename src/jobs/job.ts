import { type RawBuilder, type Selectable, sql } from 'kysely'
import type { JobTable } from '../db/tables.ts'

/** The columns of `accepted.job` from which status documents, lists, events and webhooks are made. */
export const jobColumns = [
  'id',
  'operation',
  'status',
  'principal',
  'resource',
  'percent',
  'message',
  'attempt',
  'max_attempts',
  'sequence',
  'result',
  'error',
  'cancel_requested',
  'retry_of',
  'created_at',
  'started_at',
  'updated_at',
  'ended_at',
  'expires_at',
  'attempt_started_at',
  'progress_at',
] as const satisfies readonly (keyof JobTable)[]

/** A row of `accepted.job` with {@link jobColumns}. */
export type Job = Pick<Selectable<JobTable>, (typeof jobColumns)[number]>

/**
 * Builds a SQL condition: `job.id` is one of these ids. The condition also contains the smallest and the greatest id.
 * These bounds let Postgres skip the partitions of other days. No plan reads rows outside the bounds, not even a
 * generic plan for a join.
 */
export const idIn = (ids: readonly string[]): RawBuilder<boolean> => {
  const sorted = ids.toSorted()
  return sql`job.id = any(${sorted}::uuid[]) and job.id between ${sorted[0]} and ${sorted.at(-1)}`
}
