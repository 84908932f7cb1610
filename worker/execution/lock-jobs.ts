import type { LockWait } from '../../src/db/locks.ts'
import { pipeline } from '../../src/db/pipeline.ts'
import { useDefaultPlan, useGenericPlan } from '../../src/db/plan-settings.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { type LockedJobs, lockAndClaimKeys } from './deduplicate.ts'
import type { OperationWorker } from './operation-worker.ts'
import type { EndedAttempts, ThrownAttempt } from './outcome.ts'
import { findPending, lockPending } from './pending-jobs.ts'

const areThrown = (attempts: EndedAttempts): attempts is readonly ThrownAttempt[] =>
  attempts.some((attempt) => 'error' in attempt)

/**
 * Locks the jobs and inserts their keys. No key is inserted for an attempt that threw, so that the job's next attempt
 * can insert it.
 */
export async function lockJobs(
  { operation }: OperationWorker,
  trx: AnyTransaction,
  attempts: EndedAttempts,
  lockWait: LockWait,
): Promise<LockedJobs> {
  const ids = attempts.map(({ claim }) => claim.jobId)
  if (areThrown(attempts)) {
    const [, pending] = await pipeline(trx, (trx) => [
      useGenericPlan(trx),
      lockPending(trx, ids, lockWait),
      useDefaultPlan(trx),
    ])
    return { pending, duplicates: new Map() }
  }
  // This timeout also applies to the handler's statements, so that no statement continues long after the handler's
  // timeout.
  const timeoutSeconds = operation.timeoutSeconds + 1
  const [, locked] = await pipeline(trx, (trx) => [
    useGenericPlan(trx),
    lockAndClaimKeys(trx, operation, ids, { timeoutSeconds, lockWait }),
    useDefaultPlan(trx),
  ])
  return locked
}

/**
 * Finds the jobs that another transaction has locked. A job that is missing from `pending` is locked or has ended, so a
 * second query checks which of the missing jobs have not ended.
 */
export async function findLocked(
  trx: AnyTransaction,
  attempts: EndedAttempts,
  { pending }: LockedJobs,
): Promise<Set<string>> {
  if (pending.size === attempts.length) return new Set()
  const ids = attempts.map(({ claim }) => claim.jobId)
  return findPending(
    trx,
    ids.filter((id) => !pending.has(id)),
  )
}
