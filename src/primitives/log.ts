import { type Logger, type LoggerOptions, pino } from 'pino'
import { serializeError } from './redact.ts'

/**
 * Returns standard output as the destination for pino. With pino's own destination, a process would not exit until its
 * last lines are read, even if there is no reader anymore.
 */
export function logStream(): NodeJS.WriteStream {
  // The process must not stop when the reader closes the pipe.
  if (process.stdout.listenerCount('error') === 0) process.stdout.on('error', () => {})
  return process.stdout
}

/** Creates the log of a process: one line of JSON per event, without credentials. */
export const createLog = (options: LoggerOptions = {}): Logger =>
  pino({ ...options, serializers: { err: serializeError } }, logStream())
