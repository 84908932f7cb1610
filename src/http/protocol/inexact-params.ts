import type { TSchema } from 'typebox'
import { findJsonViolations, type JsonViolation } from './strict-json.ts'

const numberPattern = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i

/** Finds texts that the validation would alter silently when it converts them to doubles. */
export function findInexactParams(schema: TSchema, params: unknown): JsonViolation[] {
  const { properties = {} } = schema as { properties?: Record<string, TSchema> }
  return Object.entries(params as Record<string, unknown>).flatMap(([name, text]) => {
    const { type } = (properties[name] ?? {}) as { type?: unknown }
    const isNumber = (type === 'integer' || type === 'number') && typeof text === 'string' && numberPattern.test(text)
    return isNumber ? findJsonViolations(text).map((violation) => ({ ...violation, pointer: `/${name}` })) : []
  })
}
