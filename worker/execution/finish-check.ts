import { readTransactionId, registerCommitCheck } from '../../src/db/commit-check.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import type { OperationWorker } from './operation-worker.ts'
import type { PendingJob } from './pending-jobs.ts'

/**
 * Registers a check that finds out whether a transaction that ends claims has committed. The check looks at the first
 * claim: after the commit, the worker no longer holds this claim.
 */
export async function registerFinishCheck(
  worker: OperationWorker,
  trx: AnyTransaction,
  claims: readonly Claim[],
  pending: ReadonlyMap<string, PendingJob>,
): Promise<void> {
  const [claim] = claims
  if (!claim) return
  const [row] = pending.values()
  // When all jobs had already ended, no locked row has the id.
  const transactionId = row?.transaction_id ?? (await readTransactionId(trx, true))
  registerCommitCheck(trx, { transactionId, commitProof: worker.claims.notHeldProof(claim) })
}
