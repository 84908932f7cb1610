import { createBatcher } from '../src/batcher.ts'
import { JobLocked, LostClaim } from './failure.ts'
import type { Lane } from './lane.ts'
import { patiently } from './patiently.ts'
import { type Performed, type Settled, settle } from './settle.ts'
import { chargeFailure } from './settle-failure.ts'

/** Jobs that have been performed and are settled in one transaction, at most, and such transactions at once. */
const settledTogether = 100
const settlesAtOnce = 2

/** Settles jobs of one operation, each as soon as it has been performed, those that end at the same time together. */
export interface Settling {
  /** Resolves when it has been settled or has failed: whether it was settled, together with all of its batch. */
  settle(performed: Performed): Promise<boolean>
}

/** What is to be settled, and told when it has been, or has failed. */
interface Unsettled extends Performed {
  /** @param isSettled whether it was settled, together with all of its batch */
  onEnd?(isSettled: boolean): void
}

/** Makes the settling of a lane. */
export function createSettling(lane: Lane, context: { stopping: AbortSignal }): Settling {
  const batcher = createBatcher<Unsettled>({
    batchSize: settledTogether,
    batchesAtOnce: settlesAtOnce,
    run: (batch) => settleOrSplit(lane, batch, context),
  })
  return {
    settle: (performed) => new Promise((onEnd) => batcher.push({ ...performed, onEnd })),
  }
}

/**
 * Settles a batch in one transaction. When that fails, each half settles in a transaction of its own, and so on, so that
 * only the job that cannot be settled is charged. What somebody else has locked comes last: the others do not wait for it.
 */
export async function settleOrSplit(
  lane: Lane,
  batch: readonly Unsettled[],
  context: { stopping: AbortSignal },
): Promise<void> {
  const locked: Unsettled[] = []
  const settleSome = async (some: readonly Unsettled[], isBrief: boolean): Promise<void> => {
    try {
      const { hints, outcomes } = await patiently(lane, context, settleOnce(lane, some, isBrief))
      lane.metrics.countOutcomes(lane.operation.name, outcomes)
      lane.hints.notify('work', hints)
      lane.hints.notify(
        'status',
        some.map(({ claim }) => claim.jobId),
      )
      for (const { onEnd } of some) onEnd?.(some.length === batch.length)
    } catch (error) {
      const [first, ...more] = some as [Unsettled, ...Unsettled[]]
      // The worker hands back what it holds when it has stopped.
      if (context.stopping.aborted) {
        for (const { onEnd } of some) onEnd?.(false)
      } else if (more.length > 0) {
        lane.metrics.countRetry(lane.operation.name, 'bisected')
        const half = Math.ceil(some.length / 2)
        await settleSome(some.slice(0, half), isBrief)
        await settleSome(some.slice(half), isBrief)
      } else if (error instanceof JobLocked) {
        locked.push(first)
      } else {
        await chargeFailure(lane, first.claim, error, context)
        first.onEnd?.(false)
      }
    }
  }
  await settleSome(batch, batch.length > 1)
  for (const one of locked) await settleSome([one], false)
}

/** Settles in a transaction. One whose COMMIT was lost on the way may have happened: the next try finds that out. */
function settleOnce(lane: Lane, performed: readonly Performed[], isBrief: boolean): () => Promise<Settled> {
  let settled: Settled | undefined
  return async () => {
    try {
      return await lane.database.kysely.transaction().execute(async (trx) => {
        settled = await settle(lane, trx, performed, isBrief)
        return settled
      })
    } catch (error) {
      const claims = performed.map(({ claim }) => claim)
      if (settled && error instanceof LostClaim && (await lane.claims.areCompleted(claims))) return settled
      throw error
    }
  }
}
