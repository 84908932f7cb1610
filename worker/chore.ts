import { setTimeout as delay } from 'node:timers/promises'

/** Something that is done again and again. */
export interface Chore {
  /** Resolves when what is under way has ended. */
  stop(): Promise<void>
}

/** The pause after what took long, at most, in milliseconds: it may have been the network. */
const longestPause = 5_000

/** How long to rest from what took so long, in milliseconds, for it to take so much of the time at most. */
export const restAfter = (took: number, part: number): number => Math.min(took * (1 / part - 1), longestPause)

/**
 * Does something at once and then with pauses, never twice at the same time.
 *
 * @param milliseconds the pause, at least
 * @param onError told when it failed; it goes on
 * @param part of the time that it may take: what is slow pauses for longer, up to five seconds
 */
export function repeat(
  milliseconds: number,
  work: () => Promise<void>,
  onError: (error: Error) => void,
  part = 1,
): Chore {
  const stopping = new AbortController()
  const loop = async () => {
    while (!stopping.signal.aborted) {
      const begunAt = performance.now()
      await work().catch(onError)
      const pause = Math.max(milliseconds, restAfter(performance.now() - begunAt, part))
      await delay(pause, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const looping = loop()
  return {
    stop() {
      stopping.abort()
      return looping
    },
  }
}

/** Something that is done when there is reason to. */
export interface OnDemand<Reason> extends Chore {
  /** Does it, unless it is being done: who finds the reason still there asks again. */
  run(reason: Reason): void
}

/**
 * Does something when asked to, never twice at the same time.
 *
 * @param onError told when it failed
 */
export function onDemand<Reason = void>(
  work: (reason: Reason) => Promise<void>,
  onError: (error: Error) => void,
): OnDemand<Reason> {
  let underWay: Promise<void> | undefined
  let stopped = false
  return {
    run(reason) {
      if (stopped) return
      underWay ??= work(reason)
        .catch(onError)
        .finally(() => {
          underWay = undefined
        })
    },
    async stop() {
      stopped = true
      await underWay
    },
  }
}
