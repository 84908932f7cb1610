import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import type { TransactionPolicy } from '../../src/db/transaction.ts'
import type { Seals } from '../../src/jobs/seals.ts'
import type { Operation } from '../../src/operation.ts'
import { type TraceContext, traceLogMembers } from '../../src/primitives/trace-context.ts'
import type { Tracing } from '../../src/primitives/tracing.ts'
import type { AttemptedJob } from '../../src/queue/begun-job.ts'
import type { PgBoss } from '../../src/queue/boss.ts'
import type { Claim } from '../../src/queue/claim.ts'
import type { Claims } from '../../src/queue/claims.ts'
import type { Handler } from '../handlers.ts'
import type { Metrics, OutcomeCounts } from '../metrics.ts'
import type { RunningJob } from '../running-job.ts'
import { type AttemptSpans, senderOf } from './attempt-spans.ts'

/** One operation of a worker process, with everything that is needed to run its jobs. */
export interface OperationWorker {
  operation: Operation
  /** All operations of the app and the built-in ones, by name. */
  operations: ReadonlyMap<string, Operation>
  /** The id of the process in `accepted.worker`. */
  workerId: string
  handler: Handler
  seals: Seals
  claims: Claims
  database: Database
  boss: PgBoss
  notifier: Notifier
  metrics: Metrics
  log: Logger
  /** These two are undefined if the app does not trace. */
  tracing?: Tracing | undefined
  spans?: AttemptSpans | undefined
}

/** What a transaction has changed, to be announced after its commit. */
export interface CommitResult {
  /** The jobs whose status has changed. */
  jobs: readonly string[]
  /** The operations that have new jobs. */
  enqueued: Iterable<string>
  outcomes: OutcomeCounts
}

/** Counts what a committed transaction has changed, and notifies workers and watchers. */
export function announce({ operation, metrics, notifier, log }: OperationWorker, result: CommitResult): void {
  log.trace({ jobs: result.jobs, ...result.outcomes }, 'Attempts ended')
  metrics.countOutcomes(operation.name, result.outcomes)
  notifier.notify('work', result.enqueued)
  notifier.notify('status', result.jobs)
}

/**
 * Creates the retry policy of a worker's transactions. Retries without limit while Postgres is unavailable, and up to
 * 10 times on contention. A full disk gets only 10 retries, because the cause may be that the rows of this job are too
 * large. A second run is harmless, because each transaction checks that its claims are still held.
 *
 * @param signal aborts when the worker stops; then nothing is retried
 */
export function transactionPolicy({ operation, metrics }: OperationWorker, signal: AbortSignal): TransactionPolicy {
  return {
    maxRetries: { contention: 10, 'disk-full': 10, 'lost-connection': Infinity, outage: Infinity },
    commitCheckTimeoutMs: Infinity,
    isFenced: true,
    signal,
    onRetry: (reason) => metrics.countRetry(operation.name, reason === 'contention' ? 'contention' : 'outage'),
  }
}

/**
 * Opens the sealed members of a claimed payload.
 *
 * @throws DecryptionError
 */
export const openPayload = (
  { operation, seals }: OperationWorker,
  { payload }: Claim,
  { principal }: Pick<AttemptedJob, 'principal'>,
): unknown => seals.open('payload', { operation, principal }, payload)

/** Returns the context of the innermost span of an attempt. Without tracing: of the span that sent the job. */
export const traceContextOf = ({ spans }: OperationWorker, claim: Claim, row: AttemptedJob): TraceContext =>
  spans?.current(claim)?.context ?? senderOf(row)

/**
 * Creates the properties that a job has in both `perform` and `settle`.
 *
 * @param payload the opened payload
 */
export function describeJob(
  worker: OperationWorker,
  claim: Claim,
  row: AttemptedJob,
  payload: unknown,
): Omit<RunningJob, 'setResource' | 'dependencies'> {
  const context = traceContextOf(worker, claim, row)
  return {
    id: row.id,
    operation: worker.operation.name,
    payload,
    principal: row.principal,
    attempt: claim.attempt,
    maxAttempts: row.max_attempts,
    idempotencyKey: row.idempotency_key ?? row.id,
    traceparent: context.traceparent,
    tracestate: context.tracestate,
    batch: row.batch ?? undefined,
    worker: worker.workerId,
    log: worker.log.child({ job: row.id, attempt: claim.attempt, ...traceLogMembers(context) }),
  }
}
