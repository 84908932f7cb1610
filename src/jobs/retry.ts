import { sql } from 'kysely'
import type { JobState } from '../db/tables.ts'
import type { AnyTransaction } from '../operation.ts'

/** What a retry takes over from the job it repeats. */
export interface RetryableJob {
  id: string
  operation: string
  state: JobState
  principal: string
  resource: string | null
  payload: unknown
  /** A job that ended behind our back may have left none. */
  has_payload: boolean
  idempotency_key: string | null
  webhook_endpoint_id: string | null
}

/** The states from which a job may be retried, as a new job. */
export const retryableStates: readonly JobState[] = ['failed', 'canceled']

/** Reads what a retry needs to know of a job of the principal; its record is kept until the transaction ends. */
export async function findRetryable(
  trx: AnyTransaction,
  { id, principal }: { id: string; principal: string },
): Promise<RetryableJob | undefined> {
  const { rows } = await sql<RetryableJob>`
    select id, operation, state, principal, resource, payload, payload is not null as has_payload, idempotency_key, webhook_endpoint_id
    from accepted.job where id = ${id} and principal = ${principal} for share`.execute(trx)
  return rows[0]
}
