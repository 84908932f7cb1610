import { setImmediate as immediate } from 'node:timers/promises'
import type { Claim } from './claim.ts'
import { JobLocked } from './failure.ts'
import { handBack } from './hand-back.ts'
import type { Lane } from './lane.ts'
import { type RunContext, runBatch, runEach } from './run.ts'
import { createSettling } from './settling.ts'

/** The loop that claims and runs the jobs of one operation. */
export interface Loop {
  /** There may be work. */
  wake(): void
  /** What is in our hands. */
  held(): Claim[]
  /** Claims nothing until the loop is resumed; resolves when nothing is in our hands. */
  pause(): Promise<void>
  resume(): void
  /** Runs what was claimed elsewhere. Answers whether it has come to an end: not, when the worker stopped before. */
  run(claims: readonly Claim[]): Promise<boolean>
  /** Claims nothing more; resolves when nothing is in our hands. */
  drain(): Promise<void>
}

/** Jobs in one transaction, at most. */
const defaultBatchSize = 100
/** Performs at once in this process. */
const defaultConcurrency = 10
/** While one batch settles the next is claimed. */
const batchesAtOnce = 2
/** Before jobs run again that could not even be begun, in seconds. */
const pauseSeconds = 5

/** Starts the loop of a lane. It claims no more than it has free slots for, as a claim's time runs from the claim. */
export function startLoop(lane: Lane, context: RunContext): Loop {
  const { handler } = lane
  const batchSize = handler.perform ? undefined : (handler.batchSize ?? defaultBatchSize)
  const slots = handler.perform ? (handler.concurrency ?? defaultConcurrency) : batchesAtOnce
  const settling = createSettling(lane, context)
  const held = new Set<Claim>()
  let batches = 0
  let woken = true
  let claiming = false
  let paused = false
  let draining = false
  let proceed = () => {}
  let onIdle: (() => void)[] = []
  const used = () => (batchSize ? batches : held.size)

  const wake = () => {
    woken = true
    proceed()
  }
  const end = (...claims: Claim[]) => {
    for (const claim of claims) held.delete(claim)
    // Its group has room again.
    if (lane.operation.groupConcurrency !== undefined) woken = true
    proceed()
  }

  const run = (claims: readonly Claim[]) => {
    for (const { waited } of claims) {
      if (waited !== undefined) lane.metrics.observeWait(lane.operation.name, waited)
    }
    return runHeld(claims)
  }

  const runHeld = async (claims: readonly Claim[]): Promise<boolean> => {
    batches += 1
    for (const claim of claims) held.add(claim)
    try {
      // By a claim that was under way when the worker was told to stop.
      if (draining) {
        await handBack(lane, claims)
        return false
      }
      await (batchSize ? runBatch(lane, claims, context) : runEach(lane, claims, { settling, ...context }, end))
      return !context.stopping.aborted
    } catch (err) {
      if (err instanceof JobLocked) {
        const areRun = await Promise.all(claims.map((claim) => runHeld([claim])))
        return areRun.every((isRun) => isRun)
      }
      lane.log.error({ err }, 'Jobs could not be begun; they are handed back')
      if (!context.stopping.aborted) await handBack(lane, claims, pauseSeconds)
      return false
    } finally {
      batches -= 1
      end(...claims)
      tellIdle()
    }
  }

  const tellIdle = () => {
    if (claiming || batches > 0) return
    for (const tell of onIdle) tell()
    onIdle = []
  }
  const idle = () =>
    new Promise<void>((resolve) => {
      onIdle.push(resolve)
      tellIdle()
    })

  const loop = async () => {
    while (!draining) {
      if (paused || !woken || used() >= slots) {
        await new Promise<void>((resolve) => {
          proceed = resolve
        })
        // All that end in this turn make room for one claim.
        await immediate()
        continue
      }
      woken = false
      claiming = true
      const limit = batchSize ?? slots - used()
      try {
        const claims = await lane.claims.claim(limit, wake)
        // A full claim means there is probably more.
        if (claims.length === limit) woken = true
        if (claims.length > 0) void run(claims)
      } catch (err) {
        // The next look-around wakes us again.
        lane.log.warn({ err }, 'Jobs could not be claimed')
      } finally {
        claiming = false
        tellIdle()
      }
    }
    await idle()
  }

  const looping = loop()
  return {
    wake,
    held: () => [...held],
    pause() {
      paused = true
      return idle()
    },
    resume() {
      paused = false
      proceed()
    },
    run,
    drain() {
      draining = true
      proceed()
      return looping
    },
  }
}
