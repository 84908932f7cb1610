import { enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import type { AnyTransaction } from '../src/operation.ts'
import type { Claim } from './claim.ts'
import { AttemptFailed, describeError, JobFailed, RetryAfter } from './failure.ts'
import type { Lane } from './lane.ts'
import type { Settled } from './settle.ts'
import {
  forgetSuspects,
  lockPending,
  writeAttempts,
  writeCanceled,
  writeFailed,
  writeQueued,
  writeRetried,
} from './status.ts'

/**
 * Ends a failed attempt in the transaction: a row for the attempt, and the job goes back to the queue, has failed, or is
 * canceled when that was asked for.
 *
 * @throws LostClaim
 */
export async function settleFailure(lane: Lane, trx: AnyTransaction, claim: Claim, cause: unknown): Promise<Settled> {
  const pending = await lockPending(trx, [claim.jobId])
  await forgetSuspects(trx, [claim])
  const row = pending.get(claim.jobId)
  if (!row || row.cancel_requested) {
    const canceled = row ? await writeCanceled(trx, [claim]) : []
    await lane.claims.complete(trx, [claim])
    return { hints: await enqueueDeliveries(lane.boss, trx, canceled), outcomes: { canceled: canceled.length } }
  }
  if (cause instanceof RetryAfter && cause.seconds < row.kept_seconds) {
    await writeQueued(trx, [claim.jobId])
    // It has run alone, and did no harm.
    await lane.claims.release(trx, [{ ...claim, isSuspect: false }], cause.seconds)
    return { hints: [], outcomes: { retried: 1 } }
  }
  const error = describeError(cause)
  await writeAttempts(trx, [claim], pending, error)
  if (!(cause instanceof JobFailed) && claim.attempt < row.max_attempts) {
    await writeRetried(trx, [claim], false)
    await lane.claims.fail(trx, claim, error, cause instanceof AttemptFailed ? cause.retryAfterSeconds : undefined)
    return { hints: [], outcomes: { retried: 1 } }
  }
  const failed = await writeFailed(trx, [claim], error)
  await lane.claims.fail(trx, claim, error, 'never')
  return { hints: await enqueueDeliveries(lane.boss, trx, failed), outcomes: { failed: 1 } }
}
