import type { AcceptOutcome } from '../accept/accept.ts'
import { assertBacklog, passIfRepeated } from '../accept/backlog.ts'
import type { Idempotency } from '../accept/fingerprint.ts'
import { retryJob } from '../accept/retry-job.ts'
import type { Actor } from '../db/actor.ts'
import type { Job } from '../jobs/job.ts'
import type { Message } from '../jobs/spans.ts'
import type { TraceContext } from '../primitives/trace-context.ts'
import { uuid7 } from '../primitives/uuid.ts'
import type { Core } from './core.ts'
import { runJobTransaction } from './job-transaction.ts'

/** The outcome of a retry: a retry is never coalesced. */
export type RetryOutcome = Exclude<AcceptOutcome, { kind: 'coalesced' }>

export interface RetryRequest {
  /** The job to retry, which the caller may see. */
  job: Pick<Job, 'id' | 'operation' | 'principal'>
  /** The owner of the job to retry; undefined for any owner. */
  owner: string | undefined
  /** The principal to which the idempotency key belongs. */
  principal: string
  idempotency: Idempotency | undefined
  actor: Actor | undefined
  /** Sends the new job within a span. */
  trace(message: Message, send: (context: TraceContext) => Promise<RetryOutcome>): Promise<RetryOutcome>
}

/**
 * Retries a failed or canceled job as a new job, and commits that. Notify the workers afterwards.
 *
 * @throws ProblemError not-found, job-not-retryable, job-locked, backlog-full, principal-backlog-full
 */
export async function retry(core: Core, request: RetryRequest): Promise<RetryOutcome> {
  const { database, operations } = core
  const { job, owner, principal, idempotency, actor } = request
  const operation = operations.get(job.operation)
  if (operation) {
    const check = assertBacklog(database, operation, job.principal)
    await passIfRepeated(database, principal, () => idempotency?.key, check)
  }
  const id = uuid7()
  return request.trace({ id, operation: job.operation }, (context) =>
    runJobTransaction(core, job.id, actor, (trx) =>
      retryJob(trx, operations, { id, jobId: job.id, owner, principal, idempotency, ...context }),
    ),
  )
}
