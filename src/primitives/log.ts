import { type DestinationStream, type Logger, type LoggerOptions, pino } from 'pino'
import { formatLogLine } from './log-format.ts'
import { serializeError } from './redact.ts'

/**
 * Returns the destination of a log: standard output, readable for people if it is a terminal, else JSON. With pino's own
 * destination, a process would not exit until its last lines are read, even if there is no reader anymore.
 */
export function logStream(): DestinationStream {
  const { stdout } = process
  // The process must not stop when the reader closes the pipe.
  if (stdout.listenerCount('error') === 0) stdout.on('error', () => {})
  return stdout.isTTY ? { write: (line) => void stdout.write(formatLogLine(line)) } : stdout
}

/** Creates the log of a process: one line per event, without credentials. */
export const createLog = (options: LoggerOptions = {}): Logger =>
  pino({ ...options, serializers: { err: serializeError } }, logStream())
