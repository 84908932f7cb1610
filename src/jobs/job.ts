import { type RawBuilder, type Selectable, sql } from 'kysely'
import type { JobTable } from '../db/tables.ts'

/** A row of `accepted.job`, without the columns that no reader of a status needs. */
export type Job = Omit<Selectable<JobTable>, 'payload' | 'idempotency_key' | 'trace' | 'webhook_endpoint_id'>

/** The columns of {@link Job}. */
export const jobColumns = [
  'id',
  'operation',
  'state',
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
] as const satisfies readonly (keyof Job)[]

/**
 * That the row of `accepted.job`, by the name of `job`, is one of these. In a join, too, it keeps a plan from reading more,
 * whatever was in the table when it was made; and between bounds it skips the partitions of other days.
 */
export const among = (ids: readonly string[]): RawBuilder<boolean> => {
  const sorted = ids.toSorted()
  return sql`job.id = any(${sorted}::uuid[]) and job.id between ${sorted[0]} and ${sorted.at(-1)}`
}
