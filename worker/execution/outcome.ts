import { errorCode, isOutage, isStalePlan, sqlstate } from '../../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { DecryptionError } from '../../src/primitives/key-ring.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { AttemptFailed, describeError, JobFailed, RetryAfter } from '../errors.ts'
import type { PendingJob } from './pending-jobs.ts'
import type { ProgressReport } from './progress.ts'

/**
 * An attempt that is ready to complete: `perform` has returned, or the handler has no `perform`. If the handler has a
 * `settle`, it runs next.
 */
export interface PerformedAttempt {
  claim: Claim
  /** What `perform` returned. */
  result?: unknown
  /** The path that `perform` set with `setResource`. */
  resource?: string | undefined
  /** The last report of `perform`, if it may not be written yet. */
  report?: ProgressReport | undefined
  /** When the handler was called, on the clock of `performance.now()`. */
  startedAt?: number
  /** `perform` was skipped, because the job seemed to be canceled, ended or a duplicate. */
  isUnperformed?: true
}

/** An attempt that threw an error in `perform` or `settle`, or whose transaction could not commit. */
export interface ThrownAttempt {
  claim: Claim
  error: unknown
  /** The last report of `perform`, if it may not be written yet. */
  report?: ProgressReport | undefined
}

/** Attempts that finish in one transaction. An attempt that threw finishes in a transaction of its own. */
export type EndedAttempts = readonly PerformedAttempt[] | readonly ThrownAttempt[]

/** What happens to a job when its attempt ends. All changes are written in one transaction (finish.ts). */
export type AttemptOutcome =
  /** The job succeeds. The effects of `settle` and the new status commit together. */
  | { kind: 'completed' }
  /**
   * The job is due again after a pause. An attempt that does not count uses up none of the job's attempts, and is not
   * recorded in `accepted.attempt`. In contrast, an attempt of a dead worker is recorded, although it does not count.
   */
  | { kind: 'retry'; isCounted: true; error: JobErrorColumn; delaySeconds: number | undefined }
  | { kind: 'retry'; isCounted: false; error: JobErrorColumn; delaySeconds: number }
  /** The job fails for good. */
  | { kind: 'failed'; error: JobErrorColumn }
  /** A client has requested the cancellation. */
  | { kind: 'canceled' }
  /** The job had already ended, or has no record. Only its queue row must be deleted. */
  | { kind: 'ended' }
  /** Another worker has begun the job, so this attempt writes nothing. */
  | { kind: 'lost' }

/** The pause before a job runs again after an outage of Postgres, in seconds. */
const outageDelaySeconds = 5
/** The pause before a job runs again after DDL has made a prepared statement stale, in seconds. */
const stalePlanDelaySeconds = 1

/** The pause before a job runs again whose payload no key of this worker decrypts, in seconds. */
const missingKeyDelaySeconds = 60

/**
 * Decides what happens to a job when its attempt ends: whether the job completes, is retried or fails, how long the
 * pause is, and whether the attempt counts. Three kinds of jobs are due again without this decision: jobs that could
 * not begin (executor.ts), jobs that a stopping worker released (release.ts), and jobs that were rescued from a dead
 * worker (rescuer.ts).
 *
 * @param row the locked row of the job; undefined when the job has ended or has no record
 * @param isDuplicate whether another job with the same key has had the effect
 */
export function outcomeOf(
  attempt: PerformedAttempt | ThrownAttempt,
  row: PendingJob | undefined,
  isDuplicate: boolean,
): AttemptOutcome {
  if (!row) return { kind: 'ended' }
  if (row.cancel_requested) return { kind: 'canceled' }
  if ('error' in attempt) return outcomeOfError(attempt, row)
  return attempt.isUnperformed && !isDuplicate ? { kind: 'lost' } : { kind: 'completed' }
}

function outcomeOfError({ claim, error }: ThrownAttempt, row: PendingJob): AttemptOutcome {
  const described = describeError(error)
  const delaySeconds = uncountedDelaySeconds(error)
  // If the record would expire before the next attempt, the attempt counts. Otherwise the job might never end.
  if (delaySeconds !== undefined && delaySeconds < row.kept_seconds) {
    return { kind: 'retry', isCounted: false, error: described, delaySeconds }
  }
  if (error instanceof JobFailed || claim.attempt >= row.max_attempts) return { kind: 'failed', error: described }
  return {
    kind: 'retry',
    isCounted: true,
    error: described,
    // With undefined, pg-boss computes the pause from the `retry` options of the operation. These options are stored
    // with the queue (accepted.define_queue).
    delaySeconds: error instanceof AttemptFailed ? error.retryAfterSeconds : undefined,
  }
}

/**
 * Returns the pause after an attempt that does not count, in seconds; undefined when the attempt counts. An outage of
 * Postgres or DDL may also fail statements of the handler. Then the attempt does not count. Nor does it count if the key
 * of the payload is missing: a worker that starts later may have it.
 */
function uncountedDelaySeconds(error: unknown): number | undefined {
  if (error instanceof RetryAfter) return error.seconds
  if (error instanceof DecryptionError && error.code === 'decryption-key-missing') return missingKeyDelaySeconds
  if (isStalePlan(error)) return stalePlanDelaySeconds
  // A DBA has limited how long transactions take.
  if (errorCode(error) === sqlstate.transactionTimeout) return outageDelaySeconds
  return isOutage(error) ? outageDelaySeconds : undefined
}
