import { type Logger, type LoggerOptions, pino } from 'pino'
import { serializeError } from './redact.ts'

/**
 * Standard output, for pino. Its own way there waits for ever, at the exit of a process, for somebody to read the last
 * lines, though nobody is there any more.
 */
export function logStream(): NodeJS.WriteStream {
  // A reader who went away is no error of ours.
  if (process.stdout.listenerCount('error') === 0) process.stdout.on('error', () => {})
  return process.stdout
}

/** The log of a process: a line of JSON for each event, without credentials. */
export const createLog = (options: LoggerOptions = {}): Logger =>
  pino({ ...options, serializers: { err: serializeError } }, logStream())
