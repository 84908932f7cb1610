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
