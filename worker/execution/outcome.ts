import { isOutage } from '../../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { LostClaim } from '../../src/queue/errors.ts'
import { AttemptFailed, describeError, JobFailed, RetryAfter } from '../errors.ts'
import type { PendingJob } from './pending-jobs.ts'

/** How an attempt ends. */
export type AttemptOutcome =
  /** The handler has done its work. The job completes in one transaction with the effects of `settle`. */
  | { kind: 'completed'; job: PerformedJob }
  /** The job is due again after a pause. An attempt that does not count leaves no row in `accepted.attempt`. */
  | { kind: 'retry'; isCounted: true; error: JobErrorColumn; delaySeconds: number | undefined }
  | { kind: 'retry'; isCounted: false; delaySeconds: number }
  | { kind: 'failed'; error: JobErrorColumn }
  /** A client asked for it, or the job had ended before. */
  | { kind: 'canceled' }
  /** Another worker holds the job, so nothing of this attempt is recorded. */
  | { kind: 'lost' }

/** How an attempt ends that threw. */
export type FailureOutcome = Exclude<AttemptOutcome, { kind: 'completed' }>

/** A claimed job that is ready for its completing transaction. */
export interface PerformedJob {
  claim: Claim
  /** What `perform` returned. */
  result?: unknown
  /** The path that `perform` set with `setResource`. */
  resource?: string | undefined
  /** `perform` was skipped, because the job seemed to be canceled, ended or a duplicate. */
  isUnperformed?: true
}

/** The pause before a job runs again whose attempt met an outage of Postgres, in seconds. */
const outageDelaySeconds = 5

/**
 * Decides what follows when an attempt throws: whether the job is retried, when, and whether the attempt counts.
 *
 * @param row the job as it is now; undefined when it has ended
 */
export function outcomeOf(error: unknown, claim: Claim, row: PendingJob | undefined): FailureOutcome {
  if (error instanceof LostClaim) return { kind: 'lost' }
  if (!row || row.cancel_requested) return { kind: 'canceled' }
  const delaySeconds = uncountedDelaySeconds(error)
  // Once the record would expire before the next attempt, the attempt counts, so that the job ends.
  if (delaySeconds !== undefined && delaySeconds < row.kept_seconds) {
    return { kind: 'retry', isCounted: false, delaySeconds }
  }
  const described = describeError(error)
  if (error instanceof JobFailed || claim.attempt >= row.max_attempts) return { kind: 'failed', error: described }
  return {
    kind: 'retry',
    isCounted: true,
    error: described,
    // By default the operation's retry policy decides.
    delaySeconds: error instanceof AttemptFailed ? error.retryAfterSeconds : undefined,
  }
}

/** The handler's own statements meet outages of Postgres too; those do not spend an attempt. */
function uncountedDelaySeconds(error: unknown): number | undefined {
  if (error instanceof RetryAfter) return error.seconds
  return isOutage(error) ? outageDelaySeconds : undefined
}
