import { withTimeout } from './timeout.ts'

export interface ExclusiveOptions {
  /** How long to wait for earlier callers, in milliseconds. */
  timeoutMs: number
  timeoutError: () => Error
}

/**
 * Serialises work per key within this process. When many callers need the same lock in Postgres, only one caller waits
 * in Postgres and uses a connection.
 */
export interface KeyedMutex {
  /**
   * Runs the work when all earlier callers with the same key are done.
   *
   * @throws the error that `timeoutError` returns, when the earlier callers take longer than `timeoutMs`
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
      // The next caller waits for this caller and for the previous caller. Otherwise the next caller would start too
      // early when this caller times out.
      const last = previous ? previous.then(() => done) : done
      lastByKey.set(key, last)
      try {
        if (previous) await withTimeout(previous, timeoutMs, timeoutError)
        return await work()
      } finally {
        release()
        const forget = () => lastByKey.get(key) === last && lastByKey.delete(key)
        // After a timeout, the previous caller may still be working.
        if (previous) void last.then(forget)
        else forget()
      }
    },
  }
}
