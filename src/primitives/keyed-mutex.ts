import { withTimeout } from './timeout.ts'

export interface ExclusiveOptions {
  /** How long to wait for earlier callers, in milliseconds. */
  timeoutMs: number
  timeoutError: () => Error
}

/**
 * Serialises work per key within this process. Of all callers that need the same lock in Postgres, at most one waits
 * there and holds a connection.
 */
export interface KeyedMutex {
  /**
   * Runs the work once every earlier caller with the same key is done.
   *
   * @throws what `timeoutError` returns, when the earlier callers take longer than `timeoutMs`
   */
  runExclusive<Result>(key: string, options: ExclusiveOptions, work: () => Promise<Result>): Promise<Result>
}

/** Creates a mutex. A lock exists only while a caller holds it or waits for it. */
export function createKeyedMutex(): KeyedMutex {
  const lastByKey = new Map<string, Promise<void>>()
  return {
    async runExclusive(key, { timeoutMs, timeoutError }, work) {
      const previous = lastByKey.get(key)
      const { promise: done, resolve: release } = Promise.withResolvers<void>()
      // A caller that gives up must not let the next one start before the previous one is done.
      const last = previous ? previous.then(() => done) : done
      lastByKey.set(key, last)
      try {
        if (previous) await withTimeout(previous, timeoutMs, timeoutError)
        return await work()
      } finally {
        release()
        void last.then(() => lastByKey.get(key) === last && lastByKey.delete(key))
      }
    },
  }
}
