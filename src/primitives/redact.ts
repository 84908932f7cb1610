import { findCredential } from './credentials.ts'

/** Maximum length of a text, in characters. A longer text is cut. */
const maxTextLength = 4_000
/** How much is read after that, in characters. A credential that is cut in two may not be recognised. */
const lookaheadLength = 1_000

/** Cuts a text after 4,000 characters, and replaces the credentials in it with `***`. */
export function redact(text: string): string {
  const start = text.slice(0, maxTextLength + lookaheadLength)
  let redacted = ''
  let end = 0
  for (let found = findCredential(start, 0); found; found = findCredential(start, end)) {
    redacted += `${start.slice(end, found.start)}***`
    end = found.end
  }
  return (redacted + start.slice(end)).slice(0, maxTextLength)
}

/** An error as it is logged. */
export interface SerializedError {
  type: string
  message: string
  stack: string
  [more: string]: unknown
}

/** How many levels of causes are logged. */
const maxCauses = 5

/**
 * Serialises an error for the log. Leaves out properties that the error class adds, because they may contain headers,
 * addresses and passwords. Never throws.
 */
export function serializeError(error: unknown, causes = maxCauses): SerializedError {
  try {
    if (!(error instanceof Error)) return { type: typeof error, message: redact(String(error)), stack: '' }
    const { name, message, stack, code, cause } = error as Error & { code?: unknown }
    return {
      type: redact(`${name}`),
      message: redact(`${message}`),
      ...(typeof code === 'string' && { code: redact(code) }),
      stack: redact(`${stack}`),
      ...(cause !== undefined && causes > 0 && { cause: serializeError(cause, causes - 1) }),
    }
  } catch {
    return { type: typeof error, message: 'A value that cannot be read was thrown', stack: '' }
  }
}

/** Rebuilds an error from its serialised form. The properties that {@link serializeError} leaves out are missing. */
export function toError({ type, message, stack, code, cause }: SerializedError): Error {
  const error = new Error(message, cause === undefined ? undefined : { cause: toError(cause as SerializedError) })
  return Object.assign(error, { name: type, stack }, code === undefined ? {} : { code })
}
