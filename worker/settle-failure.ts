import { isLostConnection, isOutage } from '../src/db/sqlstate.ts'
import { enqueueDeliveries } from '../src/jobs/webhook-delivery.ts'
import type { AnyTransaction } from '../src/operation.ts'
import type { Claim } from './claim.ts'
import { AttemptFailed, describeError, JobCanceled, JobFailed, LostClaim, RetryAfter } from './failure.ts'
import type { Lane } from './lane.ts'
import { patiently } from './patiently.ts'
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

/** Before a job runs again that Postgres left in the lurch, in seconds. */
const outagePause = 5

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

/** Charges a failed attempt to its job; what is no fault of the job is not charged. */
export async function chargeFailure(
  lane: Lane,
  claim: Claim,
  error: unknown,
  context: { stopping: AbortSignal },
): Promise<void> {
  // The worker hands back what it holds when it has stopped.
  if (context.stopping.aborted) return
  const log = lane.log.child({ job: claim.jobId, attempt: claim.attempt })
  const isLost = (reason: unknown) => reason instanceof LostClaim
  if (isLost(error)) {
    lane.metrics.countOutcomes(lane.operation.name, { lost: 1 })
    return log.warn('The claim was lost; what it did was rolled back')
  }
  // Postgres was away from the handler's own statements, too.
  const cause = isOutage(error) ? new RetryAfter(outagePause) : error
  if (error instanceof JobCanceled) log.info('Canceled while it was running')
  else log.warn({ err: error }, 'The attempt failed')
  let recorded: Settled | undefined
  const recordOnce = async (reason: unknown) => {
    try {
      return await lane.database.kysely.transaction().execute(async (trx) => {
        recorded = await settleFailure(lane, trx, claim, reason)
        return recorded
      })
    } catch (failure) {
      // It was ours when it was recorded: the COMMIT was lost on the way, and has happened.
      if (recorded && isLost(failure)) return recorded
      if (!isLostConnection(failure)) recorded = undefined
      throw failure
    }
  }
  // Nothing of the handler's runs in it: what is locked now will not be for ever.
  const record = (reason: unknown) => patiently(lane, context, () => recordOnce(reason), Number.POSITIVE_INFINITY)
  try {
    const { hints, outcomes } = await record(cause).catch((failure) => {
      if (isLost(failure) || context.stopping.aborted) throw failure
      log.error({ err: failure }, 'The failure could not be recorded as it is')
      return record(new Error('The attempt failed, and its error could not be recorded'))
    })
    lane.metrics.countOutcomes(lane.operation.name, outcomes)
    lane.hints.notify('work', hints)
    lane.hints.notify('status', [claim.jobId])
  } catch (failure) {
    if (isLost(failure)) {
      lane.metrics.countOutcomes(lane.operation.name, { lost: 1 })
      return log.warn('The claim was lost before its failure was recorded')
    }
    log.error({ err: failure }, 'The failure could not be recorded; the job runs again when its heartbeat is overdue')
  }
}
