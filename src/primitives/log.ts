import { type Logger, type LoggerOptions, pino } from 'pino'
import { serializeError } from './redact.ts'

/**
 * Returns standard output for pino. pino's own destination would keep a process from exiting until its last lines are
 * read, even when no reader is left.
 */
export function logStream(): NodeJS.WriteStream {
  // A reader that closes the pipe must not stop the process.
  if (process.stdout.listenerCount('error') === 0) process.stdout.on('error', () => {})
  return process.stdout
}

/** Creates the log of a process: one line of JSON per event, without credentials. */
export const createLog = (options: LoggerOptions = {}): Logger =>
  pino({ ...options, serializers: { err: serializeError } }, logStream())
