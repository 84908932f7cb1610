import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { Settings } from 'typebox/system'
import { findLimitKeyMismatch } from './limit.ts'
import type { Operation } from './operation.ts'

// The default limit of TypeBox is 8 violations. Without a limit, the response could be much larger than the request.
Settings.Set({ maxErrors: 100 })

// The API compiles its request schemas with the same compiler, so both check formats in the same way.
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
 * @returns a JSON pointer (RFC 6901) and the violation, for example `/title must be string`. If the whole value is
 *   wrong, the text starts with `it`: `it must be object`. Undefined when the value matches.
 * @param sealed pointers to members of which the text says no more than that they do not match. The name of an
 *   additional member may be secret too.
 */
export function findMismatch(schema: TSchema, value: unknown, sealed: readonly string[] = []): string | undefined {
  const validator = validatorOf(schema)
  if (validator.Check(value)) return undefined
  // For an additional member, TypeBox reports two violations. The `boolean` violation says less, so it is skipped.
  const violations = validator.Errors(value)
  const violation = violations.find(({ keyword }) => keyword !== 'boolean') ?? violations[0]
  if (!violation) return 'it does not match'
  const { instancePath, keyword, message, params } = violation
  const pointer = sealed.find((one) => instancePath === one || instancePath.startsWith(`${one}/`))
  if (pointer !== undefined) return `${pointer || 'it'} does not match`
  const names = keyword === 'additionalProperties' ? `: ${params.additionalProperties.join(', ')}` : ''
  return `${instancePath || 'it'} ${message}${names}`
}

/** Finds the violations of a schema in a value, at most 100. */
export function findViolations(schema: TSchema, value: unknown): ReturnType<Validator['Errors']> {
  const validator = validatorOf(schema)
  return validator.Check(value) ? [] : validator.Errors(value)
}

/**
 * Finds the first violation in a payload from the queue. See {@link findMismatch}. A payload without a limit key is also
 * invalid.
 */
export const findPayloadMismatch = (operation: Operation, payload: unknown): string | undefined =>
  // A program or a person may have deleted it from the queue row. A schema may allow it to be missing.
  payload === undefined
    ? 'the queue has lost it'
    : (findMismatch(operation.schemas.payload, payload, operation.seal) ?? findLimitKeyMismatch(operation, payload))

/** Finds the first violation in what a handler returned. See {@link findMismatch}. */
export const findResultMismatch = ({ schemas, seal }: Operation, result: unknown): string | undefined =>
  schemas.result && findMismatch(schemas.result, result, seal)

/**
 * Checks that a payload matches the schema of its operation.
 *
 * @throws TypeError that names the operation and the first violation
 */
export function assertPayload(operation: Operation, payload: unknown): void {
  const mismatch = findMismatch(operation.schemas.payload, payload, operation.seal)
  if (mismatch) throw new TypeError(`The payload does not match the schema of '${operation.name}': ${mismatch}`)
}
