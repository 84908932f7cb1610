import { ProblemError } from '../errors.ts'
import { enqueue } from '../jobs/enqueue.ts'
import type { Job } from '../jobs/job.ts'
import { findRetryable, newRetry, type RetryableJob, retryableStatuses } from '../jobs/retryable-job.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import type { PgBoss } from '../queue/boss.ts'
import type { AcceptOutcome } from './accept.ts'
import { claimKeys } from './idempotency-key.ts'

/** A request to retry a job. */
export interface RetryRequest {
  /** UUIDv7: the id of the new job. */
  id: string
  /** The job to retry. */
  jobId: string
  principal: string
  idempotency?: { key: string; fingerprint: Buffer } | undefined
  /** W3C traceparent. */
  traceparent?: string | undefined
}

/**
 * Retries a failed or canceled job within the transaction: enqueues a new job with the same payload.
 *
 * @throws ProblemError not-found or job-not-retryable. The caller must then roll back the transaction, so that the
 *   idempotency key stays unused.
 */
export async function retryJob(
  boss: PgBoss,
  trx: AnyTransaction,
  operations: ReadonlyMap<string, Operation>,
  { id, jobId, principal, idempotency, traceparent }: RetryRequest,
): Promise<AcceptOutcome> {
  if (idempotency) {
    const [holder] = await claimKeys(trx, [{ principal, ...idempotency, jobId: id }])
    if (holder && holder.jobId !== id) {
      const isSame = idempotency.fingerprint.equals(holder.fingerprint)
      return isSame ? { kind: 'replayed', jobId: holder.jobId } : { kind: 'key-reused' }
    }
  }
  const failed = await findRetryable(trx, { id: jobId, principal })
  if (!failed) throw new ProblemError('not-found', 'There is no such job, or it is not yours')
  const operation = retryableOperation(failed, operations)
  const [job] = await enqueue(boss, trx, [{ ...newRetry(failed, operation, id), traceparent }])
  return { kind: 'accepted', job: job as Job }
}

function retryableOperation(job: RetryableJob, operations: ReadonlyMap<string, Operation>): Operation {
  if (!retryableStatuses.includes(job.status)) {
    throw new ProblemError(
      'job-not-retryable',
      `The job is ${job.status}; only a failed or canceled job can be retried`,
    )
  }
  const operation = operations.get(job.operation)
  if (!operation) throw new ProblemError('job-not-retryable', `The operation '${job.operation}' no longer exists`)
  if (!job.has_payload) {
    throw new ProblemError(
      'job-not-retryable',
      'The payload of the job was lost with its row in the queue, so the job cannot run again; send the request again',
    )
  }
  return operation
}
