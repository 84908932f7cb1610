import { transact } from '../../src/db/transaction.ts'
import { enqueueDeliveries } from '../../src/jobs/webhook-delivery.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { LostClaim } from '../../src/queue/errors.ts'
import { JobCanceled } from '../errors.ts'
import { registerEndCheck } from './end-check.ts'
import {
  removeFromQuarantine,
  writeAttempts,
  writeCanceled,
  writeFailed,
  writeQueued,
  writeRetried,
} from './job-status.ts'
import { announce, type CommitResult, type OperationWorker, transactionPolicy } from './operation-worker.ts'
import { type AttemptOutcome, outcomeOf } from './outcome.ts'
import { lockPending, type PendingJob } from './pending-jobs.ts'

/**
 * Ends an attempt that threw, in a transaction of its own, and announces the outcome. Does nothing once the worker
 * stops.
 */
export async function recordFailure(
  worker: OperationWorker,
  claim: Claim,
  error: unknown,
  { stopping }: { stopping: AbortSignal },
): Promise<void> {
  // A stopping worker releases every claim that it still holds.
  if (stopping.aborted) return
  const log = worker.log.child({ job: claim.jobId, attempt: claim.attempt })
  const policy = transactionPolicy(worker, stopping)
  // No handler code runs in this transaction, so anything that blocks it is temporary.
  const endless = { ...policy, maxRetries: { ...policy.maxRetries, contention: Infinity, 'disk-full': Infinity } }
  const record = (reason: unknown) =>
    transact(worker.database, (trx) => failAttempt(worker, trx as unknown as AnyTransaction, claim, reason), endless)
  try {
    if (error instanceof LostClaim) throw error
    if (error instanceof JobCanceled) log.info('Job canceled while it was running')
    else log.warn({ err: error }, 'Attempt failed')
    const result = await record(error).catch((failure) => {
      if (failure instanceof LostClaim || stopping.aborted) throw failure
      log.error({ err: failure }, 'The error of the attempt cannot be stored; recording the failure without it')
      return record(new Error('The attempt failed, and its error could not be stored'))
    })
    announce(worker, result)
  } catch (failure) {
    if (failure instanceof LostClaim) {
      worker.metrics.countOutcomes(worker.operation.name, { lost: 1 })
      return log.warn('Claim lost; the effects of this attempt were rolled back')
    }
    log.error({ err: failure }, 'The failure could not be recorded; the job is rescued when its heartbeat is overdue')
  }
}

/**
 * Ends an attempt that threw, within the transaction.
 *
 * @throws LostClaim when another worker holds the job
 */
export async function failAttempt(
  worker: OperationWorker,
  trx: AnyTransaction,
  claim: Claim,
  error: unknown,
): Promise<CommitResult> {
  const pending = await lockPending(trx, [claim.jobId])
  const outcome = outcomeOf(error, claim, pending.get(claim.jobId))
  await registerEndCheck(worker, trx, [claim], pending)
  await removeFromQuarantine(trx, [claim])
  return { jobs: [claim.jobId], ...(await writeOutcome(worker, trx, claim, outcome, pending)) }
}

async function writeOutcome(
  worker: OperationWorker,
  trx: AnyTransaction,
  claim: Claim,
  outcome: AttemptOutcome,
  pending: ReadonlyMap<string, PendingJob>,
): Promise<Omit<CommitResult, 'jobs'>> {
  const { claims, boss } = worker
  switch (outcome.kind) {
    case 'canceled': {
      const canceled = pending.size > 0 ? await writeCanceled(trx, [claim]) : []
      await claims.complete(trx, [claim])
      return { enqueued: await enqueueDeliveries(boss, trx, canceled), outcomes: { canceled: canceled.length } }
    }
    case 'retry':
      if (outcome.isCounted) {
        await writeAttempts(trx, [claim], pending, outcome.error)
        await writeRetried(trx, [claim], { extraAttempts: 0 })
        await claims.fail(trx, claim, outcome.error, outcome.delaySeconds)
      } else {
        await writeQueued(trx, [claim.jobId])
        // The job has run alone without crashing the worker, so it leaves quarantine.
        await claims.release(trx, [{ ...claim, isQuarantined: false }], outcome.delaySeconds)
      }
      return { enqueued: [], outcomes: { retried: 1 } }
    case 'failed': {
      await writeAttempts(trx, [claim], pending, outcome.error)
      const failed = await writeFailed(trx, [claim], outcome.error)
      await claims.fail(trx, claim, outcome.error, 'never')
      return { enqueued: await enqueueDeliveries(boss, trx, failed), outcomes: { failed: 1 } }
    }
    case 'lost':
      throw new LostClaim(`Another worker holds the job ${claim.jobId}`)
  }
}
