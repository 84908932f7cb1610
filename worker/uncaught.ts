import { AsyncLocalStorage } from 'node:async_hooks'
import type { Logger } from 'pino'

/** A handler at work. */
interface Running {
  log: Logger
  /** Ends it with an error, unless it has ended. */
  fail(error: unknown): void
}

const running = new AsyncLocalStorage<Running>()

/** Runs a handler so that what it leaves uncaught can be told from what others do. */
export const runCharged = <Result>(handler: Running, work: () => Result): Result => running.run(handler, work)

/**
 * Charges an error that nobody caught to the handler whose code threw it: a promise it did not wait for, a timer, an
 * emitter. Its attempt fails with it, or its settle is rolled back; the jobs beside it are unharmed. For the process's
 * listeners to `unhandledRejection` and `uncaughtException`, as `accepted worker` has them.
 *
 * @returns false when it is no handler's
 */
export function chargeUncaught(error: unknown): boolean {
  const handler = running.getStore()
  if (!handler) return false
  handler.log.error({ err: error }, 'The handler left an error uncaught')
  handler.fail(error ?? new Error(`The handler left ${error} uncaught`))
  return true
}
