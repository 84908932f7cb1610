import { inTime } from './in-time.ts'

/**
 * Lets those who want the same thing go one after the other. So that of all who wait for one lock in Postgres, only one
 * waits there, and holds a connection.
 */
export interface Turns {
  /**
   * Does the work when it is its turn.
   *
   * @param patience how long to wait for it, in milliseconds
   * @throws what `onTimeout` makes, when the turn does not come in time
   */
  take<Result>(
    thing: string,
    options: { patience: number; onTimeout: () => Error },
    work: () => Promise<Result>,
  ): Promise<Result>
}

/** Makes the turns of a process. */
export function createTurns(): Turns {
  const last = new Map<string, Promise<void>>()
  return {
    async take(thing, { patience, onTimeout }, work) {
      const before = last.get(thing)
      const { promise: over, resolve: end } = Promise.withResolvers<void>()
      // Who gives up leaves the line in order.
      const mine = before ? before.then(() => over) : over
      last.set(thing, mine)
      try {
        if (before) await inTime(before, patience, onTimeout)
        return await work()
      } finally {
        end()
        void mine.then(() => last.get(thing) === mine && last.delete(thing))
      }
    },
  }
}
