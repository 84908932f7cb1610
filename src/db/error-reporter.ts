import { type Logger, symbols } from 'pino'
import { redact } from '../primitives/redact.ts'
import { isIdleError } from './postgres-error.ts'
import { isContention, isOutage } from './sqlstate.ts'

/**
 * Logs an error of background work. The work continues after the error. `message` says what failed and what happens
 * next.
 */
export type ReportError = (error: unknown, message: string, context?: object) => void

/** How often an outage is logged, in milliseconds. */
const outageIntervalMs = 60_000

/** When an outage was logged last, for each destination of a log, by `performance.now()`. */
const outageLoggedAt = new WeakMap<object, number>()

/** Returns the destination of a log. Loggers for parts of a process share it. */
const destinationOf = (log: object): object => (log as { [symbols.streamSym]?: object })[symbols.streamSym] ?? log

/**
 * Creates a reporter. During an outage, all background work fails repeatedly. These errors are logged without a stack:
 * one error per minute and process at the level `warn`, and the others at the level `debug`. The end of an idle
 * connection is logged at the level `debug`, because a DBA or a firewall may close idle connections all the time.
 * Contention is logged without a stack, and an error with another cause with its stack.
 */
export function createErrorReporter(log: Pick<Logger, 'warn' | 'debug'>): ReportError {
  return (error, message, context) => {
    if (isIdleError(error)) {
      log.debug({ reason: redact((error as Error).message), ...context }, message)
      return
    }
    if (isContention(error)) {
      log.warn({ reason: redact((error as Error).message), ...context }, message)
      return
    }
    if (!isOutage(error)) {
      log.warn({ err: error, ...context }, message)
      return
    }
    const destination = destinationOf(log)
    const isDue = performance.now() - (outageLoggedAt.get(destination) ?? Number.NEGATIVE_INFINITY) > outageIntervalMs
    if (isDue) outageLoggedAt.set(destination, performance.now())
    log[isDue ? 'warn' : 'debug'](
      { reason: redact((error as Error).message), ...context },
      `Postgres is unavailable. ${message}`,
    )
  }
}
