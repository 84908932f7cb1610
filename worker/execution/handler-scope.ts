import { AsyncLocalStorage } from 'node:async_hooks'
import type { Logger } from 'pino'

/** A running `perform` or `settle`. */
interface RunningHandler {
  log: Logger
  /** Fails the attempt. Has no effect once the handler has returned. */
  fail(error: unknown): void
}

const current = new AsyncLocalStorage<RunningHandler>()

/** Runs a handler so that {@link failUncaught} can attribute uncaught errors to it. */
export const runInHandlerScope = <Result>(handler: RunningHandler, work: () => Result): Result =>
  current.run(handler, work)

/**
 * Fails the attempt whose handler left an error uncaught: in a promise that it did not await, in a timer, or in an
 * event emitter. If `settle` was running, its transaction is rolled back. Other jobs are not affected. Call this
 * function in the process's listeners to `unhandledRejection` and `uncaughtException`, as `accepted worker` does.
 *
 * @returns false when the error does not come from a handler
 */
export function failUncaught(error: unknown): boolean {
  const handler = current.getStore()
  if (!handler) return false
  handler.log.error({ err: error }, 'The handler left an error uncaught; the attempt fails')
  handler.fail(error ?? new Error(`The handler left ${error} uncaught`))
  return true
}
