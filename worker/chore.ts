import { setTimeout as delay } from 'node:timers/promises'

/** Something that is done again and again. */
export interface Chore {
  /** Resolves when what is under way has ended. */
  stop(): Promise<void>
}

/**
 * Does something at once and then with pauses, never twice at the same time.
 *
 * @param milliseconds the pause
 * @param onError told when it failed; it goes on
 */
export function repeat(milliseconds: number, work: () => Promise<void>, onError: (error: Error) => void): Chore {
  const stopping = new AbortController()
  const loop = async () => {
    while (!stopping.signal.aborted) {
      await work().catch(onError)
      await delay(milliseconds, undefined, { signal: stopping.signal }).catch(() => {})
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
