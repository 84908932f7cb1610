import { ProblemError } from '../errors.ts'
import type { Operation } from '../operation.ts'
import { readable } from '../primitives/thrown.ts'
import type { AcceptEntry } from './entry.ts'

/** Maximum length of a key in characters. The index of `accepted.coalesced_key` holds keys of this length. */
const maxKeyLength = 255

/**
 * Adds the coalescing key to a request, if its operation coalesces requests.
 *
 * @throws ProblemError invalid-body when the key is empty or too long
 * @throws Error when the operation's function throws or does not return a text. The client gets a 500.
 */
export const withCoalescingKey = (entry: AcceptEntry): AcceptEntry =>
  entry.operation.coalesce ? { ...entry, coalescingKey: coalescingKeyOf(entry) } : entry

function coalescingKeyOf({ operation, input, params }: AcceptEntry): string {
  const key = callKey(operation, input, params)
  // Postgres cannot store a NUL.
  if (typeof key !== 'string' || key.includes('\0')) {
    const returned = typeof key === 'string' ? 'a text with a NUL character' : `a value of type ${typeof key}`
    throw new TypeError(`coalesce.key of '${operation.name}' must return a text, and returned ${returned}`)
  }
  if (key === '' || key.length > maxKeyLength) {
    const message = `The request has a coalescing key of ${key.length} characters; allowed are 1 to ${maxKeyLength}`
    throw new ProblemError('invalid-body', message)
  }
  // The driver would write half of a surrogate pair as U+FFFD.
  return key.toWellFormed()
}

function callKey({ name, coalesce }: Operation, input: unknown, params: unknown): unknown {
  try {
    return coalesce?.key(input, params)
  } catch (error) {
    // Only `refuse` declares an answer, so the status of an error that has one must not reach the client.
    throw new Error(`coalesce.key of '${name}' failed`, { cause: readable(error) })
  }
}
