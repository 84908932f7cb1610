import { sql } from 'kysely'
import type { LockWait } from '../../src/db/locks.ts'
import { pipeline } from '../../src/db/pipeline.ts'
import { useDefaultPlan, useGenericPlan } from '../../src/db/plan-settings.ts'
import { enqueueDeliveries } from '../../src/jobs/webhook-delivery.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { LostClaim } from '../../src/queue/errors.ts'
import { lockAndClaimKeys } from './deduplicate.ts'
import { registerEndCheck } from './end-check.ts'
import { removeFromQuarantine, writeCanceled, writeDuplicates, writeSucceeded } from './job-status.ts'
import type { CommitResult, OperationWorker } from './operation-worker.ts'
import type { PerformedJob } from './outcome.ts'
import { findPending, type PendingJob } from './pending-jobs.ts'
import { retryRequeued } from './retry-requeued.ts'
import { runSettle } from './run-settle.ts'

/** What a completing transaction has changed. */
export interface Completion extends CommitResult {
  /** Jobs that were left out because another transaction has locked them or their key. */
  locked: PerformedJob[]
}

/**
 * Ends jobs in one transaction: their keys, the handler's writes, their status and the deletion of their queue rows
 * commit together or not at all. Jobs that are to be canceled end as canceled, without the handler.
 *
 * Completing and canceling take locks in the same order: `accepted.job` by id, keys, the handler's rows, the queue.
 *
 * @param lockWait `skip` leaves out jobs that another transaction has locked; they are returned as `locked`
 * @throws LostClaim when this worker no longer holds one of the claims
 */
export async function completeJobs(
  worker: OperationWorker,
  trx: AnyTransaction,
  performed: readonly PerformedJob[],
  lockWait: LockWait,
): Promise<Completion> {
  const { operation, boss } = worker
  const ids = performed.map(({ claim }) => claim.jobId)
  // This timeout also applies to the handler's statements, so that none runs longer than the handler may.
  const timeoutSeconds = operation.timeoutSeconds + 1
  const [, { pending, duplicates }] = await pipeline(trx, (trx) => [
    useGenericPlan(trx),
    lockAndClaimKeys(trx, operation, ids, { timeoutSeconds, lockWait }),
    useDefaultPlan(trx),
  ])
  const { locked, free } =
    lockWait === 'skip' ? await leaveOutLocked(trx, performed, pending) : { locked: [], free: performed }
  if (free.length === 0) return { jobs: [], enqueued: [], outcomes: {}, locked }
  const { ended, canceled, live } = groupByStatus(free, pending)
  const requeued = await retryRequeued(worker, trx, ended)
  const fresh = live.filter(({ claim }) => !duplicates.has(claim.jobId))
  const unperformed = fresh.find(({ isUnperformed }) => isUnperformed)
  if (unperformed) throw new LostClaim(`The job ${unperformed.claim.jobId} has not been performed`)
  const { completions, enqueued } = await runSettle(worker, trx, fresh, pending)
  const claims = free.map(({ claim }) => claim)
  const liveClaims = live.map(({ claim }) => claim)
  const [, succeeded, duplicated, canceledJobs] = await pipeline(trx, (trx) => [
    useGenericPlan(trx),
    writeSucceeded(trx, operation, completions),
    writeDuplicates(trx, operation, liveClaims, duplicates),
    writeCanceled(trx, canceled),
    worker.claims.complete(trx, claims),
    removeFromQuarantine(trx, claims),
    // Checks deferred constraints here, so that a violation fails this statement and not the COMMIT.
    sql`set constraints all immediate`.execute(trx),
  ])
  const deliveries = await enqueueDeliveries(boss, trx, [...succeeded, ...duplicated, ...canceledJobs])
  await registerEndCheck(worker, trx, claims, pending)
  return {
    jobs: free.map(({ claim }) => claim.jobId),
    enqueued: [...enqueued, ...requeued, ...deliveries],
    outcomes: { succeeded: succeeded.length + duplicated.length, canceled: canceledJobs.length },
    locked,
  }
}

/** A job without a row has ended, or another transaction holds its row or its key. A second query tells which. */
async function leaveOutLocked(
  trx: AnyTransaction,
  performed: readonly PerformedJob[],
  pending: ReadonlyMap<string, PendingJob>,
): Promise<{ locked: PerformedJob[]; free: readonly PerformedJob[] }> {
  if (pending.size === performed.length) return { locked: [], free: performed }
  const ids = performed.map(({ claim }) => claim.jobId)
  const locked = await findPending(
    trx,
    ids.filter((id) => !pending.has(id)),
  )
  const isLocked = ({ claim }: PerformedJob) => locked.has(claim.jobId)
  return { locked: performed.filter(isLocked), free: performed.filter((job) => !isLocked(job)) }
}

function groupByStatus(jobs: readonly PerformedJob[], pending: ReadonlyMap<string, PendingJob>) {
  const isToBeCanceled = ({ claim }: PerformedJob) => pending.get(claim.jobId)?.cancel_requested === true
  const isPending = ({ claim }: PerformedJob) => pending.has(claim.jobId)
  return {
    ended: jobs.filter((job) => !isPending(job)).map(({ claim }) => claim),
    canceled: jobs.filter(isToBeCanceled).map(({ claim }) => claim),
    live: jobs.filter((job) => isPending(job) && !isToBeCanceled(job)),
  }
}
