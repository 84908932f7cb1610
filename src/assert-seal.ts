import { parsePointer } from './primitives/json-pointer.ts'

/**
 * Finds what is wrong with the option `seal` of an operation.
 *
 * @param schemas the schemas of the payload and of the result. A pointer to a member of neither is refused, because it
 *   would seal nothing.
 * @returns what `seal` must be; undefined when it is valid
 */
export function problemOfSeal(seal: unknown, schemas: readonly unknown[]): string | undefined {
  if (!Array.isArray(seal)) return "must be a list of JSON pointers, for example ['/card']"
  for (const [index, pointer] of seal.entries()) {
    const tokens = typeof pointer === 'string' ? parsePointer(pointer) : undefined
    if (!tokens) return `must contain JSON pointers like '/card/number' (RFC 6901), not ${JSON.stringify(pointer)}`
    if (seal.indexOf(pointer) !== index) return `contains '${pointer}' twice`
    const outer = seal.find((other) => other !== pointer && pointer.startsWith(`${other}/`))
    if (outer !== undefined) return `must not contain '${pointer}', because '${outer}' seals it too`
    if (!schemas.some((schema) => mayContain(schema, tokens))) {
      return `contains '${pointer}', but neither the payload nor the result has such a member`
    }
  }
  return undefined
}

interface JsonSchema {
  properties?: Record<string, unknown>
  patternProperties?: object
  additionalProperties?: unknown
  anyOf?: unknown[]
  allOf?: unknown[]
  oneOf?: unknown[]
  type?: unknown
}

/** Returns whether a value of a schema may have a member. Members that an object does not declare do not count. */
function mayContain(schema: unknown, [token, ...more]: readonly string[]): boolean {
  if (typeof schema !== 'object' || schema === null) return false
  if (token === undefined) return true
  const { properties, patternProperties, additionalProperties, anyOf, allOf, oneOf, type } = schema as JsonSchema
  const parts = [anyOf, allOf, oneOf].flatMap((list) => list ?? [])
  if (parts.length > 0) return parts.some((part) => mayContain(part, [token, ...more]))
  if (typeof type === 'string' && type !== 'object' && type !== 'array') return false
  if (!properties || patternProperties || additionalProperties) return true
  return Object.hasOwn(properties, token) && mayContain(properties[token], more)
}
