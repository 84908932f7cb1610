import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import type { Operation } from './operation.ts'

// Compiled when first needed, and once: as the API compiles the same schema for its requests, so that formats mean the same.
const validators = new WeakMap<TSchema, Validator>()

function validatorOf(schema: TSchema): Validator {
  const known = validators.get(schema)
  if (known) return known
  const made = Compile(schema) as Validator
  validators.set(schema, made)
  return made
}

/**
 * Where and how a value does not fit a schema, for example `/title must be string`; undefined when it fits.
 *
 * @returns the first violation, with a JSON pointer (RFC 6901) to it unless it is the value itself
 */
export function findMismatch(schema: TSchema, value: unknown): string | undefined {
  const validator = validatorOf(schema)
  if (validator.Check(value)) return undefined
  // TypeBox says of a surplus member, besides its name, that `false` allows nothing.
  const violations = validator.Errors(value)
  const violation = violations.find(({ keyword }) => keyword !== 'boolean') ?? violations[0]
  if (!violation) return 'it is refused'
  const { instancePath, keyword, message, params } = violation
  const names = keyword === 'additionalProperties' ? `: ${params.additionalProperties.join(', ')}` : ''
  return `${instancePath || 'it'} ${message}${names}`
}

/**
 * Refuses a payload that does not fit the schema of its operation: the mistake of whoever made it.
 *
 * @throws TypeError naming the operation and the first path that does not fit
 */
export function assertPayload(operation: Operation, payload: unknown): void {
  const mismatch = findMismatch(operation.schemas.payload, payload)
  if (mismatch) throw new TypeError(`The payload does not fit the schema of '${operation.name}': ${mismatch}`)
}
