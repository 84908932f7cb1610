import type { PgBoss } from '../db/boss.ts'
import { ProblemError } from '../errors.ts'
import { enqueue } from '../jobs/enqueue.ts'
import type { Job } from '../jobs/job.ts'
import { findRetryable, newRetry, type RetryableJob, retryableStates } from '../jobs/retry.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import type { Outcome } from './accept.ts'
import { claimKeys } from './idempotency-key.ts'

/** A request to run a job again. */
export interface RetryRequest {
  /** UUIDv7: the id of the new job. */
  id: string
  /** The job to run again. */
  jobId: string
  principal: string
  idempotency?: { key: string; fingerprint: Buffer } | undefined
  /** W3C traceparent. */
  trace?: string | undefined
}

/**
 * Runs a failed or canceled job again, as a new job with the same payload, within the transaction.
 *
 * @throws ProblemError not-found, job-not-retryable: roll back, and the key stays unused
 */
export async function retryJob(
  boss: PgBoss,
  trx: AnyTransaction,
  operations: ReadonlyMap<string, Operation>,
  { id, jobId, principal, idempotency, trace }: RetryRequest,
): Promise<Outcome> {
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
  const [job] = await enqueue(boss, trx, [{ ...newRetry(failed, operation, id), trace }])
  return { kind: 'accepted', job: job as Job }
}

function retryableOperation(job: RetryableJob, operations: ReadonlyMap<string, Operation>): Operation {
  if (!retryableStates.includes(job.state)) {
    throw new ProblemError('job-not-retryable', `The job is ${job.state}; only a failed or canceled one can be retried`)
  }
  const operation = operations.get(job.operation)
  if (!operation) throw new ProblemError('job-not-retryable', `There is no operation '${job.operation}' any more`)
  if (!job.has_payload) throw new ProblemError('job-not-retryable', 'What the job worked on has not been kept')
  return operation
}
