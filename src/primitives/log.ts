import { type Logger, type LoggerOptions, pino } from 'pino'
import { serializeError } from './redact.ts'

/**
 * Returns standard output for pino. pino's own destination would block the exit of a process until the last lines are
 * read, even when the reader is gone.
 */
export function logStream(): NodeJS.WriteStream {
  // A reader that closes its end must not stop the process.
  if (process.stdout.listenerCount('error') === 0) process.stdout.on('error', () => {})
  return process.stdout
}

/** Creates the log of a process: one line of JSON per event, without credentials. */
export const createLog = (options: LoggerOptions = {}): Logger =>
  pino({ ...options, serializers: { err: serializeError } }, logStream())
