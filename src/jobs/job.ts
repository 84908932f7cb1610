import type { Selectable } from 'kysely'
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
