/** Takes out of a text what gives access to something. */
export function redact(text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi, '$1***@')
    .replace(/\b(bearer|basic)\s+[\w.~+/=-]+/gi, '$1 ***')
    .replace(
      /\b([\w-]*(?:password|passwd|pwd|secret|token|api[-_]?key|authorization)[\w-]*)(["']?\s*[=:]\s*)("[^"]*"|'[^']*'|\S+)/gi,
      '$1$2***',
    )
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
