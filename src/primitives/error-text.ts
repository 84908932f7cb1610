import { redact } from './redact.ts'

/** In characters. Longer messages are cut. */
const maxMessageLength = 500

/** Prepares the message of an error for storage: removes what looks like a credential, and cuts a long message. */
export function storableMessage(message: string): string {
  const redacted = redact(storable(message))
  return redacted.length > maxMessageLength ? `${redacted.slice(0, maxMessageLength)}…`.toWellFormed() : redacted
}

// Postgres cannot store NUL characters. In jsonb, it also cannot store lone surrogates.
const storable = (text: string) => text.replaceAll('\0', '').toWellFormed()

/** How many errors in a chain of causes are described. */
const maxCauses = 5

/**
 * Returns the message of what code of the app has thrown, followed by those of its causes with their codes: `fetch`
 * names the address that did not answer only in the cause of its error. A cause that the text already contains is left
 * out.
 */
export function messageWithCauses(thrown: unknown): string {
  const texts: string[] = []
  let error = thrown as Error
  for (let count = 0; count <= maxCauses; count++) {
    const text = redact(count === 0 ? messageOf(thrown) : describeCause(error))
    if (text !== '' && !texts.some((known) => known.includes(text))) texts.push(text)
    const { cause } = readable(error)
    if (!(cause instanceof Error)) break
    error = cause
  }
  return texts.join(': ')
}

/** Returns the message of an error and its code. Without a message, those of the errors that it combines. */
function describeCause(error: Error): string {
  const { errors, code } = readable(error)
  const combined = Array.isArray(errors) ? errors.slice(0, maxCauses) : []
  const message = messageOf(error) || combined.map((one) => messageOf(one)).join(', ')
  if (typeof code !== 'string' || message.includes(code)) return message
  return message === '' ? code : `${message} (${code})`
}

/** The members of an error may be getters that throw. */
function readable(error: Error): { errors?: unknown; code?: unknown; cause?: unknown } {
  try {
    const { errors, code, cause } = error as Error & { errors?: unknown; code?: unknown }
    return { errors, code, cause }
  } catch {
    return {}
  }
}

/**
 * Returns the message of what code of the app has thrown.
 *
 * @param isError whether the value counts as an error. Default: an instance of Error.
 */
export function messageOf(thrown: unknown, isError = thrown instanceof Error): string {
  try {
    const text = isError ? (thrown as Error).message : thrown
    if (typeof text === 'string') return text
  } catch {
    // `message` may be a getter that throws.
  }
  return 'A value that is not an Error was thrown'
}
