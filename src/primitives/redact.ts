// Matches a name such as `api_key` or `db_password`, up to its value.
const secretName = /\b([\w-]*(?:password|passwd|pwd|secret|token|api[-_]?key)[\w-]*)(\\*["']?\s*[=:]\s*)/
// Matches a quoted string, whose quotes may be escaped or unclosed, or a word.
const secretValue = /(?:(?<quote>\\*["'])(?:(?!\k<quote>)(?:\\.|[^\\]))*(?:\k<quote>|$)|\S+)/

const credentials: readonly [RegExp, string][] = [
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s/]*@/gi, '$1***@'],
  // The whole header: there are many schemes, and some have several parts.
  [/(authorization\\*["']?\s*[=:]\s*)[^\n]*/gi, '$1***'],
  [/\b(bearer|basic)\s+[\w.~+/=-]+/gi, '$1 ***'],
  [new RegExp(secretName.source + secretValue.source, 'gi'), '$1$2***'],
]

/** In characters. Longer texts are cut first, because the patterns take more than linear time. */
const maxTextLength = 4_000

/** Replaces credentials in a text by `***`, and cuts it after 4,000 characters. */
export function redact(text: string): string {
  const start = text.slice(0, maxTextLength)
  return credentials.reduce((redacted, [pattern, replacement]) => redacted.replace(pattern, replacement), start)
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
 * Serialises an error for the log. Leaves out properties that the error class adds: they may hold headers, addresses
 * and passwords. Never throws.
 */
export function serializeError(error: unknown, causes = maxCauses): SerializedError {
  try {
    if (!(error instanceof Error)) return { type: typeof error, message: redact(String(error)), stack: '' }
    const { name, message, stack, code, cause } = error as Error & { code?: unknown }
    return {
      type: name,
      message: redact(`${message}`),
      ...(typeof code === 'string' && { code }),
      stack: redact(`${stack}`),
      ...(cause !== undefined && causes > 0 && { cause: serializeError(cause, causes - 1) }),
    }
  } catch {
    return { type: typeof error, message: 'A value that cannot be read was thrown', stack: '' }
  }
}

/** Rebuilds the error, without the properties that {@link serializeError} leaves out. */
export function toError({ type, message, stack, code, cause }: SerializedError): Error {
  const error = new Error(message, cause === undefined ? undefined : { cause: toError(cause as SerializedError) })
  return Object.assign(error, { name: type, stack }, code === undefined ? {} : { code })
}
