import type { EndedJob } from '../../src/jobs/webhook-delivery.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { DecryptionError } from '../../src/primitives/key-ring.ts'
import { type TraceContext, traceLogMembers } from '../../src/primitives/trace-context.ts'
import { JobFailed } from '../errors.ts'
import { writeAttempts, writeFailed, writeQueued, writeRetried } from './job-status.ts'
import { type OperationWorker, traceContextOf } from './operation-worker.ts'
import type { AttemptOutcome, ThrownAttempt } from './outcome.ts'
import type { PendingJob } from './pending-jobs.ts'

/** An attempt that did not complete. Its job is retried or fails. */
export interface FailedAttempt extends ThrownAttempt {
  outcome: AttemptOutcome & { kind: 'retry' | 'failed' }
}

/** What was written for a failed attempt. */
export interface WrittenFailure extends FailedAttempt {
  maxAttempts: number
  trace: TraceContext
  /** The pause before the next attempt, in seconds; undefined when the job has failed. */
  delaySeconds: number | undefined
  /** Contains the job if it has failed; otherwise empty. */
  ended: readonly EndedJob[]
}

interface WriteOptions {
  /** Whether the ends of the jobs are only decided. Then the status of a job that fails for good stays as it is. */
  isPostponed: boolean
}

/** Writes failed attempts and the status of their jobs, within the transaction that has locked the jobs. */
export async function writeFailures(
  worker: OperationWorker,
  trx: AnyTransaction,
  failed: readonly FailedAttempt[],
  pending: ReadonlyMap<string, PendingJob>,
  options: WriteOptions,
): Promise<WrittenFailure[]> {
  const written: WrittenFailure[] = []
  for (const one of failed) {
    const row = pending.get(one.claim.jobId) as PendingJob
    const failure = { ...one, maxAttempts: row.max_attempts, trace: traceContextOf(worker, one.claim, row) }
    written.push({ ...failure, ...(await writeFailure(worker, trx, one, pending, options)) })
  }
  return written
}

async function writeFailure(
  worker: OperationWorker,
  trx: AnyTransaction,
  { claim, outcome }: FailedAttempt,
  pending: ReadonlyMap<string, PendingJob>,
  { isPostponed }: WriteOptions,
): Promise<Pick<WrittenFailure, 'delaySeconds' | 'ended'>> {
  const { claims } = worker
  const { error } = outcome
  if (outcome.kind === 'failed') {
    await writeAttempts(trx, worker, [claim], pending, error)
    const ended = isPostponed ? [] : await writeFailed(trx, worker, [claim], error)
    await claims.fail(trx, claim, error, 'never')
    return { delaySeconds: undefined, ended }
  }
  if (outcome.isCounted) {
    await writeAttempts(trx, worker, [claim], pending, error)
    await writeRetried(trx, worker, [claim], { extraAttempts: 0 })
    return { delaySeconds: await claims.fail(trx, claim, error, outcome.delaySeconds), ended: [] }
  }
  await writeQueued(trx, [claim.jobId])
  // A quarantined job leaves quarantine, because its run has not crashed the worker.
  await claims.release(trx, [{ ...claim, isQuarantined: false }], outcome.delaySeconds)
  return { delaySeconds: outcome.delaySeconds, ended: [] }
}

/**
 * Logs a failed attempt. A retry, or a failure that the handler decided with {@link JobFailed}, is logged at the level
 * `info` without a stack; if a payload cannot be decrypted, at the level `error`. Every other failure is logged at the
 * level `error` with its stack.
 */
export function logFailure({ log }: OperationWorker, { claim, error, outcome, ...written }: WrittenFailure): void {
  const { maxAttempts, trace } = written
  const job = { job: claim.jobId, attempt: claim.attempt, maxAttempts, ...traceLogMembers(trace) }
  if (outcome.kind === 'retry') {
    const pause = `retrying in ${Math.ceil(written.delaySeconds ?? 0)} s`
    const message = outcome.isCounted ? `Attempt failed; ${pause}` : `Attempt ended and does not count; ${pause}`
    // Such jobs wait until a person acts.
    const level = error instanceof DecryptionError ? 'error' : 'info'
    log[level]({ ...job, error: outcome.error }, message)
    log.debug({ ...job, err: error }, 'Stack of the failed attempt')
  } else if (written.ended.length === 0) {
    log.info({ ...job, error: outcome.error }, 'Job fails when abandon has committed')
  } else if (error instanceof JobFailed) {
    log.info({ ...job, error: outcome.error }, 'Job failed, as its handler decided')
  } else {
    log.error({ ...job, err: error }, 'Job failed; no attempts are left')
  }
}
