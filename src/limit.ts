import type { Operation } from './operation.ts'
import { messageOf } from './primitives/error-text.ts'
import { readable } from './primitives/thrown.ts'

/** The limit key of all jobs of an operation whose limit has no keys. */
export const sharedLimitKey = '*'
/** Maximum length of a limit key in characters. */
const maxKeyLength = 255

/** The limit key of a payload is too short or too long, or cannot be stored. */
export class InvalidLimitKey extends TypeError {}

/**
 * Returns the limit key of a job; undefined for an operation without a limit.
 *
 * @throws TypeError when the operation's function throws, or when it does not return a text of 1 to 255 characters
 */
export function limitKeyOf({ name, limit }: Pick<Operation, 'name' | 'limit'>, payload: unknown): string | undefined {
  if (!limit?.key) return limit && sharedLimitKey
  const key = callKey(name, limit.key, payload)
  if (typeof key !== 'string') {
    throw new TypeError(`limit.key of '${name}' must return a text, not a value of type ${typeof key}`)
  }
  // Postgres cannot store a NUL.
  if (key === '' || key.length > maxKeyLength || key.includes('\0')) {
    const found = key.includes('\0') ? 'a NUL character' : `${key.length} characters`
    throw new InvalidLimitKey(`The limit key of '${name}' has ${found}; allowed are 1 to ${maxKeyLength} characters`)
  }
  // The driver would write half of a surrogate pair as U+FFFD.
  return key.toWellFormed()
}

function callKey(name: string, key: (payload: unknown) => unknown, payload: unknown): unknown {
  try {
    return key(payload)
  } catch (error) {
    throw new TypeError(`limit.key of '${name}' failed: ${messageOf(error)}`, { cause: readable(error) })
  }
}

/** Finds out why a job has no limit key. Returns undefined when it has one, or when its operation has no limit. */
export function findLimitKeyMismatch(operation: Operation, payload: unknown): string | undefined {
  try {
    limitKeyOf(operation, payload)
    return undefined
  } catch (error) {
    return (error as TypeError).message
  }
}
