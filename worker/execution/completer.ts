import type { LockWait } from '../../src/db/locks.ts'
import { transact } from '../../src/db/transaction.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createBatcher } from '../../src/primitives/batcher.ts'
import { runBisecting } from '../../src/primitives/bisect.ts'
import { completeJobs } from './complete.ts'
import { recordFailure } from './fail.ts'
import { announce, type OperationWorker, transactionPolicy } from './operation-worker.ts'
import type { PerformedJob } from './outcome.ts'

/** Upper bounds: jobs in one completing transaction, and such transactions at the same time. */
const maxBatchSize = 100
const maxConcurrentBatches = 2

/** Completes the performed jobs of one operation; those that arrive at the same time share a transaction. */
export interface Completer {
  /**
   * Resolves when the job has completed or failed.
   *
   * @returns true when it completed in one transaction with its whole batch; false when it failed or its batch was
   *   split
   */
  complete(performed: PerformedJob): Promise<boolean>
}

interface CompletingJob extends PerformedJob {
  /** @param isWholeBatch whether the job completed in one transaction with its whole batch */
  onEnd?(isWholeBatch: boolean): void
}

export function createCompleter(worker: OperationWorker, context: { stopping: AbortSignal }): Completer {
  const batcher = createBatcher<CompletingJob>({
    maxBatchSize,
    maxConcurrentBatches,
    run: (batch) => completeOrBisect(worker, batch, context),
  })
  return {
    complete: (performed) => new Promise((onEnd) => batcher.push({ ...performed, onEnd })),
  }
}

/**
 * Completes a batch in one transaction. When that fails, it is bisected into separate transactions, so that only the
 * job that cannot complete fails. Jobs that another transaction has locked complete last, each alone.
 */
export async function completeOrBisect(
  worker: OperationWorker,
  batch: readonly CompletingJob[],
  { stopping }: { stopping: AbortSignal },
): Promise<void> {
  const locked: CompletingJob[] = []
  const complete = async (jobs: readonly CompletingJob[], lockWait: LockWait) => {
    const work = (trx: unknown) => completeJobs(worker, trx as AnyTransaction, jobs, lockWait)
    const completion = await transact(worker.database, work, transactionPolicy(worker, stopping))
    announce(worker, completion)
    locked.push(...completion.locked)
    const isWholeBatch = jobs.length === batch.length
    for (const job of jobs) if (!completion.locked.includes(job)) job.onEnd?.(isWholeBatch)
  }
  const bisect = (jobs: readonly CompletingJob[], lockWait: LockWait) =>
    runBisecting(jobs, {
      run: (some) => complete(some, lockWait),
      // A stopping worker releases every claim that it still holds.
      canSplit: () => !stopping.aborted,
      onSplit: () => worker.metrics.countRetry(worker.operation.name, 'bisected'),
      async onFailure(some, error) {
        for (const { claim } of some) await recordFailure(worker, claim, error, { stopping })
        for (const { onEnd } of some) onEnd?.(false)
      },
    })
  await bisect(batch, batch.length > 1 ? 'skip' : 'wait')
  for (const job of locked.splice(0)) await bisect([job], 'wait')
}
