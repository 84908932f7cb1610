import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import type { Operation } from './operation.ts'

// The API compiles request schemas with the same compiler, so a format means the same there.
const validators = new WeakMap<TSchema, Validator>()

function validatorOf(schema: TSchema): Validator {
  const cached = validators.get(schema)
  if (cached) return cached
  const validator = Compile(schema) as Validator
  validators.set(schema, validator)
  return validator
}

/**
 * Finds the first violation of a schema in a value.
 *
 * @returns a JSON pointer (RFC 6901) and the violation, for example `/title must be string`, or `it must be object` for
 *   the value itself; undefined when the value matches
 */
export function findMismatch(schema: TSchema, value: unknown): string | undefined {
  const validator = validatorOf(schema)
  if (validator.Check(value)) return undefined
  // For an additional member, TypeBox also reports a `boolean` violation, which says less.
  const violations = validator.Errors(value)
  const violation = violations.find(({ keyword }) => keyword !== 'boolean') ?? violations[0]
  if (!violation) return 'it does not match'
  const { instancePath, keyword, message, params } = violation
  const names = keyword === 'additionalProperties' ? `: ${params.additionalProperties.join(', ')}` : ''
  return `${instancePath || 'it'} ${message}${names}`
}

/**
 * Checks that a payload matches the schema of its operation.
 *
 * @throws TypeError naming the operation and the first violation
 */
export function assertPayload(operation: Operation, payload: unknown): void {
  const mismatch = findMismatch(operation.schemas.payload, payload)
  if (mismatch) throw new TypeError(`The payload does not match the schema of '${operation.name}': ${mismatch}`)
}
