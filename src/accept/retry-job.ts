import { sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import { pipeline } from '../db/pipeline.ts'
import type { JobStatus } from '../db/tables.ts'
import { ProblemError } from '../errors.ts'
import { type Job, jobColumns } from '../jobs/job.ts'
import { insertProof } from '../jobs/new-job.ts'
import { type AnyTransaction, batchName, type Operation } from '../operation.ts'
import type { TraceContext } from '../primitives/trace-context.ts'
import type { AcceptOutcome } from './accept.ts'
import { type Idempotency, isSameRequest } from './fingerprint.ts'
import { claimKeys, setTimeouts } from './idempotency-key.ts'

/** A request to retry a job. */
export interface RetryRequest extends TraceContext {
  /** UUIDv7: the id of the new job. */
  id: string
  /** The job to retry. */
  jobId: string
  /** The owner of the job to retry; undefined for any owner. */
  owner: string | undefined
  /** The caller, to which the idempotency key belongs. */
  principal: string
  idempotency?: Idempotency | undefined
}

/** The statuses in which a job can be retried. */
const retryableStatuses: readonly JobStatus[] = ['failed', 'canceled']

/**
 * Retries a failed or canceled job within the transaction, with the function `accepted.create_retry`: enqueues a new job
 * with the same payload.
 *
 * @throws ProblemError not-found or job-not-retryable. The caller must then roll back the transaction, so that the
 *   idempotency key stays unused.
 */
export async function retryJob(
  trx: AnyTransaction,
  operations: ReadonlyMap<string, Operation>,
  { id, jobId, owner, principal, idempotency, traceparent, tracestate }: RetryRequest,
): Promise<Exclude<AcceptOutcome, { kind: 'coalesced' }>> {
  if (idempotency) {
    const claims = [{ principal, ...idempotency, jobId: id }]
    const [, [holder]] = await pipeline(trx, (trx) => [setTimeouts(trx, 'wait'), claimKeys(trx, claims)])
    if (holder && holder.jobId !== id) {
      return isSameRequest(idempotency, holder) ? { kind: 'replayed', jobId: holder.jobId } : { kind: 'key-reused' }
    }
  }
  assertRetryable(await findEnded(trx, jobId, owner), operations)
  await sql`select accepted.create_retry(${jobId}, ${id}, ${traceparent ?? null}, ${tracestate ?? null})`.execute(trx)
  const { rows } = await sql<Job & { transaction_id: string }>`
    select ${sql.join(jobColumns.map((name) => sql.ref(name)))}, ${currentTransactionId} as transaction_id
    from accepted.job where id = ${id}`.execute(trx)
  registerCommitCheck(trx, {
    transactionId: rows[0]?.transaction_id,
    commitProof: insertProof(id),
  })
  return { kind: 'accepted', job: rows[0] as Job }
}

interface EndedJob {
  operation: string
  status: JobStatus
  /** False when the queue lost the payload. A payload may also be null; then this is true. */
  has_payload: boolean
}

/** Reads the job to retry, if it belongs to the owner. Locks the row, so that it does not change in the meantime. */
async function findEnded(trx: AnyTransaction, id: string, owner: string | undefined) {
  const { rows } = await sql<EndedJob>`
    select operation, status, payload is not null as has_payload
    from accepted.lock_own_job(${id}, ${owner ?? null})`.execute(trx)
  return rows[0]
}

function assertRetryable(job: EndedJob | undefined, operations: ReadonlyMap<string, Operation>): void {
  if (!job) throw new ProblemError('not-found', 'There is no such job, or it is not yours')
  if (!retryableStatuses.includes(job.status)) {
    throw new ProblemError(
      'job-not-retryable',
      `The job is ${job.status}; only a failed or canceled job can be retried`,
    )
  }
  if (job.operation === batchName) {
    throw new ProblemError(
      'job-not-retryable',
      'A batch cannot be retried; retry its jobs, which its links.children lists',
    )
  }
  if (!operations.has(job.operation)) {
    throw new ProblemError('job-not-retryable', `The operation '${job.operation}' no longer exists`)
  }
  if (!job.has_payload) {
    throw new ProblemError(
      'job-not-retryable',
      'The payload of the job was lost with its row in the queue, so the job cannot run again; send the request again',
    )
  }
}
