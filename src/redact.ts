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

/** Takes out of a text what gives access to something. */
export function redact(text: string): string {
  return credentials.reduce((redacted, [pattern, replacement]) => redacted.replace(pattern, replacement), text)
}

/** An error in the log. */
export interface SerializedError {
  type: string
  message: string
  stack: string
  [more: string]: unknown
}

/** How an error is logged: its own properties stay out, for they hold headers, addresses and passwords. */
export function serializeError(error: unknown): SerializedError {
  if (!(error instanceof Error)) return { type: typeof error, message: redact(String(error)), stack: '' }
  const { name, message, stack, code } = error as Error & { code?: unknown }
  return {
    type: name,
    message: redact(message),
    ...(typeof code === 'string' && { code }),
    stack: redact(stack ?? ''),
    ...(error.cause !== undefined && { cause: serializeError(error.cause) }),
  }
}
