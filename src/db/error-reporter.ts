import type { Logger } from 'pino'
import { isOutage } from './sqlstate.ts'

/**
 * Logs an error of background work. The work continues after the error. `message` says what failed and what happens
 * next.
 */
export type ReportError = (error: unknown, message: string, context?: object) => void

/** How often an outage is logged, in milliseconds. */
const outageIntervalMs = 60_000

/**
 * Creates a reporter. During an outage, all background work fails repeatedly. These errors are logged without a stack:
 * one error per minute at the level `warn`, and the other errors at the level `debug`. An error with another cause is
 * logged with its stack.
 */
export function createErrorReporter(log: Pick<Logger, 'warn' | 'debug'>): ReportError {
  let loggedAt = Number.NEGATIVE_INFINITY
  return (error, message, context) => {
    if (!isOutage(error)) {
      log.warn({ err: error, ...context }, message)
      return
    }
    const isDue = performance.now() - loggedAt > outageIntervalMs
    if (isDue) loggedAt = performance.now()
    log[isDue ? 'warn' : 'debug'](
      { reason: (error as Error).message, ...context },
      `Postgres is unavailable. ${message}`,
    )
  }
}
