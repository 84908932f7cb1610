import type { LockWait } from '../../src/db/locks.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import type { OperationWorker } from './operation-worker.ts'
import { findPending, lockPending, type PendingJob } from './pending-jobs.ts'

/** Claims that this transaction may end, and the rows of their pending jobs. */
export interface LockedClaims {
  claims: Claim[]
  pending: ReadonlyMap<string, PendingJob>
  /** Claims that were left out because another transaction has locked their job. */
  lockedByOthers: Claim[]
}

/**
 * Locks jobs, and then their claims. Leaves out claims that no worker holds any more. With `skip`, also leaves out jobs
 * that another transaction has locked, because that transaction may be about to complete them.
 *
 * @param options.isOverdue whether to lock only claims whose heartbeat is overdue
 */
export async function lockClaims(
  worker: OperationWorker,
  trx: AnyTransaction,
  found: readonly Claim[],
  { isOverdue = false, lockWait }: { isOverdue?: boolean; lockWait: LockWait },
): Promise<LockedClaims> {
  const ids = found.map(({ jobId }) => jobId)
  const pending = await lockPending(trx, ids, lockWait)
  const lockedIds = await findPending(
    trx,
    ids.filter((id) => !pending.has(id)),
  )
  const free = found.filter(({ jobId }) => !lockedIds.has(jobId))
  return {
    pending,
    claims: await worker.claims.lock(trx, free, { isOverdue, lockWait }),
    lockedByOthers: found.filter(({ jobId }) => lockedIds.has(jobId)),
  }
}
