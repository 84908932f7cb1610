import { ConfigError } from '../config.ts'
import { formatLocation, formatStacks, isUsageError, locate, showThrown } from '../error-location.ts'
import { ProblemError } from '../errors.ts'
import { printable } from '../primitives/printable.ts'
import { redact } from '../primitives/redact.ts'
import { ModuleError } from '../user-module.ts'
import { explainConnectionError } from './connection-error.ts'

/**
 * Formats an error for the terminal. The text for a mistake in the setup is one sentence that says what to do. The text
 * for any other error begins with the place in the app's files that it comes from, and ends with its stack.
 */
export function formatError(error: unknown): string {
  const text = explain(error)
  const isDebugging = process.env.LOG_LEVEL === 'debug' || process.env.LOG_LEVEL === 'trace'
  if (text !== undefined && !isDebugging) return printableLines(text)
  const place = error instanceof ModuleError ? undefined : locate(error)
  const message = text ?? messageOf(error)
  const stacks = formatStacks(error instanceof ModuleError ? error.cause : error)
  // Each part is redacted by itself, because a redacted text has a maximum length.
  return [`${place ? `${formatLocation(place)}: ` : ''}${message}`, ...stacks]
    .map(redact)
    .map(printableLines)
    .join('\n')
}

const printableLines = (text: string) => text.split('\n').map(printable).join('\n')

const messageOf = (error: unknown) =>
  error instanceof Error ? error.message : `The value ${showThrown(error)} was thrown`
/** Returns a sentence that says what to do; undefined for an error that is a surprise. */
function explain(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  if (error instanceof ModuleError) return error.isExplained ? error.message : undefined
  // The class is not imported, because it would load the embedded Postgres in every command.
  if (error instanceof ConfigError || error instanceof ProblemError || error.name === 'EmbeddedPostgresError') {
    return error.message
  }
  if (isUsageError(error)) {
    const place = locate(error)
    return `${place ? `${formatLocation(place)}: ` : ''}${error.message}`
  }
  return explainListenError(error) ?? explainConnectionError(error)
}

interface ListenError extends NodeJS.ErrnoException {
  port?: number
  address?: string
  hostname?: string
}

/** Explains why a server cannot listen on its address. */
function explainListenError(error: Error): string | undefined {
  const { code, port, address, syscall, hostname } = error as ListenError
  if (syscall === 'getaddrinfo' && hostname !== undefined && hostname === process.env.HOST?.trim()) {
    return `HOST=${hostname} is unknown (${code}). Set HOST to an address of this machine, such as HOST=127.0.0.1.`
  }
  if (syscall !== 'listen' && code !== 'EADDRINUSE') return undefined
  const variables = 'PORT or WORKER_PORT'
  if (code === 'EADDRINUSE') {
    return `Port ${port} is in use. Stop the program that listens on it, or set another port with ${variables}.`
  }
  if (code === 'EACCES') return `Port ${port} requires privileges. Set a port above 1023 with ${variables}.`
  return `Cannot listen on ${address}:${port} (${code}). Set HOST to an address of this machine, such as HOST=127.0.0.1.`
}
