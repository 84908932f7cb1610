import { type DestinationStream, type Logger, type LoggerOptions, pino } from 'pino'
import { createLogFormat } from './log-format.ts'
import { serializeError } from './redact.ts'

export type LogFormat = 'text' | 'json'

/**
 * Returns the destination of a log: standard output, as text or as JSON. Default: text if it is a terminal. With pino's
 * own destination, a process would not exit until its last lines are read, even if there is no reader anymore.
 */
export function logStream(format?: LogFormat): DestinationStream {
  const { stdout } = process
  // The process must not stop when the reader closes the pipe.
  if (stdout.listenerCount('error') === 0) stdout.on('error', () => {})
  if ((format ?? (stdout.isTTY ? 'text' : 'json')) === 'json') return stdout
  const formatLine = createLogFormat()
  return { write: (line) => void stdout.write(formatLine(line)) }
}

/** Creates the log of a process: one line per event, without credentials. */
export const createLog = ({ format, ...options }: LoggerOptions & { format?: LogFormat | undefined } = {}): Logger =>
  pino({ ...options, serializers: { err: serializeError } }, logStream(format))
