import { sql } from 'kysely'
import type { JobState } from '../db/tables.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import type { NewJob } from './enqueue.ts'

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

/** The columns of {@link RetryableJob}. */
export const retryableColumns = sql`
  id, operation, state, principal, resource, payload, payload is not null as has_payload, idempotency_key,
  webhook_endpoint_id`

/** Reads what a retry needs to know of a job of the principal; its record is kept until the transaction ends. */
export async function findRetryable(
  trx: AnyTransaction,
  { id, principal }: { id: string; principal: string },
): Promise<RetryableJob | undefined> {
  const { rows } = await sql<RetryableJob>`
    select ${retryableColumns} from accepted.job where id = ${id} and principal = ${principal} for share`.execute(trx)
  return rows[0]
}

/**
 * The new job that runs a failed or canceled one again. It inherits the idempotency key that handlers pass on outside,
 * so that what took effect out there is not done again.
 *
 * @param id UUIDv7: the id of the new job
 */
export const newRetry = (job: RetryableJob, operation: Operation, id: string): NewJob => ({
  id,
  operation,
  payload: job.payload,
  principal: job.principal,
  idempotencyKey: job.idempotency_key ?? job.id,
  resource: job.resource ?? undefined,
  retryOf: job.id,
  webhookEndpointId: job.webhook_endpoint_id ?? undefined,
})
