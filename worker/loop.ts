import type { Claim } from './claim.ts'
import type { Lane } from './lane.ts'
import { type RunContext, runBatch, runEach } from './run.ts'

/** The loop that claims and runs the jobs of one operation. */
export interface Loop {
  /** There may be work. */
  wake(): void
  /** What is in our hands. */
  held(): Claim[]
  /** Claims nothing more; resolves when nothing is in our hands. */
  drain(): Promise<void>
}

/** Jobs in one transaction, at most. */
const defaultBatchSize = 100
/** Performs at once in this process. */
const defaultConcurrency = 10
/** While one batch settles the next is claimed. */
const batchesAtOnce = 2

/** Starts the loop of a lane. It claims no more than it has free slots for, as a claim's time runs from the claim. */
export function startLoop(lane: Lane, context: RunContext): Loop {
  const { handler } = lane
  const batchSize = handler.perform ? undefined : (handler.batchSize ?? defaultBatchSize)
  const slots = handler.perform ? (handler.concurrency ?? defaultConcurrency) : batchesAtOnce
  const held = new Set<Claim>()
  let batches = 0
  let woken = true
  let draining = false
  let proceed = () => {}
  const used = () => (batchSize ? batches : held.size)

  const end = (...claims: Claim[]) => {
    for (const claim of claims) held.delete(claim)
    // Its group has room again.
    if (lane.operation.groupConcurrency !== undefined) woken = true
    proceed()
  }

  const run = async (claims: readonly Claim[]) => {
    batches += 1
    for (const claim of claims) {
      held.add(claim)
      if (claim.waited !== undefined) context.metrics.observeWait(lane.operation.name, claim.waited)
    }
    try {
      await (batchSize ? runBatch(lane, claims, context) : runEach(lane, claims, context, end))
    } catch (err) {
      lane.log.error({ err }, 'Jobs were given up; they run again when their heartbeat is overdue')
    } finally {
      batches -= 1
      end(...claims)
    }
  }

  const loop = async () => {
    while (!draining) {
      if (!woken || used() >= slots) {
        await new Promise<void>((resolve) => {
          proceed = resolve
        })
        continue
      }
      woken = false
      const limit = batchSize ?? slots - used()
      try {
        const claims = await lane.claims.claim(limit)
        // A full claim means there is probably more.
        if (claims.length === limit) woken = true
        if (claims.length > 0) void run(claims)
      } catch (err) {
        // The next look-around wakes us again.
        lane.log.warn({ err }, 'Jobs could not be claimed')
      }
    }
    while (batches > 0) {
      await new Promise<void>((resolve) => {
        proceed = resolve
      })
    }
  }

  const looping = loop()
  return {
    wake() {
      woken = true
      proceed()
    },
    held: () => [...held],
    drain() {
      draining = true
      proceed()
      return looping
    },
  }
}
