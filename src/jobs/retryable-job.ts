import { sql } from 'kysely'
import type { JobStatus } from '../db/tables.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import type { NewJob } from './enqueue.ts'

/** The columns of a failed or canceled job that are needed to retry the job. */
export interface RetryableJob {
  id: string
  operation: string
  status: JobStatus
  principal: string
  resource: string | null
  payload: unknown
  /** False when the queue lost the payload. A payload may also be null; then this is true. */
  has_payload: boolean
  idempotency_key: string | null
  webhook_endpoint_id: string | null
}

/** The statuses in which a job can be retried. */
export const retryableStatuses: readonly JobStatus[] = ['failed', 'canceled']

/** The columns of {@link RetryableJob}. */
export const retryableColumns = sql`
  id, operation, status, principal, resource, payload, payload is not null as has_payload, idempotency_key,
  webhook_endpoint_id`

/**
 * Reads the job to retry, if it belongs to the principal. Locks the row, so that retention cannot delete it in the
 * meantime.
 */
export async function findRetryable(
  trx: AnyTransaction,
  { id, principal }: { id: string; principal: string },
): Promise<RetryableJob | undefined> {
  const { rows } = await sql<RetryableJob>`
    select ${retryableColumns} from accepted.job where id = ${id} and principal = ${principal} for share`.execute(trx)
  return rows[0]
}

/**
 * Makes the new job that retries a failed or canceled job. The new job keeps the idempotency key that the old job
 * passed to outside services. A service that has already processed this key can then recognize the repetition.
 *
 * @param id the id of the new job, a UUIDv7
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
