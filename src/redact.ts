// What comes after them in a text, whatever it is called there.
const named = /\b([\w-]*(?:password|passwd|pwd|secret|token|api[-_]?key)[\w-]*)(\\*["']?\s*[=:]\s*)/
// In quotes, which may be escaped themselves and may not end, or a word.
const value = /(?:(?<quote>\\*["'])(?:(?!\k<quote>)(?:\\.|[^\\]))*(?:\k<quote>|$)|\S+)/

const credentials: readonly [RegExp, string][] = [
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s/]*@/gi, '$1***@'],
  // Of a header everything: there are many schemes, and some have several parts.
  [/(authorization\\*["']?\s*[=:]\s*)[^\n]*/gi, '$1***'],
  [/\b(bearer|basic)\s+[\w.~+/=-]+/gi, '$1 ***'],
  [new RegExp(named.source + value.source, 'gi'), '$1$2***'],
]

/** Characters that are looked at: a text may hold a whole response, and the time it takes grows faster than the text. */
const longestRead = 4_000

/** Takes out of a text what gives access to something, and what comes after its first 4,000 characters. */
export function redact(text: string): string {
  const read = text.slice(0, longestRead)
  return credentials.reduce((redacted, [pattern, replacement]) => redacted.replace(pattern, replacement), read)
}

/** An error in the log. */
export interface SerializedError {
  type: string
  message: string
  stack: string
  [more: string]: unknown
}

/** Causes of causes that are logged. */
const mostCauses = 5

/** How an error is logged: its own properties stay out, for they hold headers, addresses and passwords. Never throws. */
export function serializeError(error: unknown, causes = mostCauses): SerializedError {
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
    return { type: typeof error, message: 'Something that cannot be read was thrown', stack: '' }
  }
}

/** An error as it was before it was serialized, but for what was left out. */
export function toError({ type, message, stack, code, cause }: SerializedError): Error {
  const error = new Error(message, cause === undefined ? undefined : { cause: toError(cause as SerializedError) })
  return Object.assign(error, { name: type, stack }, code === undefined ? {} : { code })
}
