import { isOutage } from '../../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { LostClaim } from '../../src/queue/errors.ts'
import { AttemptFailed, describeError, JobFailed, RetryAfter } from '../errors.ts'
import type { PendingJob } from './pending-jobs.ts'

/** How an attempt that threw ends. One that did not throw completes (complete.ts). */
export type AttemptOutcome =
  /**
   * The job is due again after a pause. An attempt that does not count uses up none of the job's attempts and, unlike one that
   * a dead worker leaves behind, is not recorded in `accepted.attempt`.
   */
  | { kind: 'retry'; isCounted: true; error: JobErrorColumn; delaySeconds: number | undefined }
  | { kind: 'retry'; isCounted: false; delaySeconds: number }
  | { kind: 'failed'; error: JobErrorColumn }
  /** A client has requested it, or the job had already ended. */
  | { kind: 'canceled' }
  /** Another worker holds the job, so nothing of this attempt is recorded. */
  | { kind: 'lost' }

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

/** The pause before a job runs again after an outage of Postgres, in seconds. */
const outageDelaySeconds = 5

/**
 * Decides what follows when an attempt throws: whether the job is retried, when, and whether the attempt counts. Jobs that
 * never got that far are due again without it: those that could not begin (executor.ts), that a stopping worker released
 * (release.ts) or that were rescued from a dead worker (rescuer.ts).
 *
 * @param row the job as it is now; undefined when it has ended
 */
export function outcomeOf(error: unknown, claim: Claim, row: PendingJob | undefined): AttemptOutcome {
  if (error instanceof LostClaim) return { kind: 'lost' }
  if (!row || row.cancel_requested) return { kind: 'canceled' }
  const delaySeconds = uncountedDelaySeconds(error)
  // If the record would expire before the next attempt, the attempt counts, so that the job ends.
  if (delaySeconds !== undefined && delaySeconds < row.kept_seconds) {
    return { kind: 'retry', isCounted: false, delaySeconds }
  }
  const described = describeError(error)
  if (error instanceof JobFailed || claim.attempt >= row.max_attempts) return { kind: 'failed', error: described }
  return {
    kind: 'retry',
    isCounted: true,
    error: described,
    // undefined: the `retry` options of the operation decide. They are stored with the queue (queueOptions in boss.ts), and
    // pg-boss computes the pause.
    delaySeconds: error instanceof AttemptFailed ? error.retryAfterSeconds : undefined,
  }
}

/** An outage of Postgres can also fail the handler's own statements. It does not use up an attempt. */
function uncountedDelaySeconds(error: unknown): number | undefined {
  if (error instanceof RetryAfter) return error.seconds
  return isOutage(error) ? outageDelaySeconds : undefined
}
