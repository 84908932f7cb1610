/** A violation of a schema, as the validator reports it. */
export interface SchemaViolation {
  instancePath: string
  keyword: string
  message?: string
  params: Record<string, unknown>
}

// TypeBox reports an unexpected member twice. The second report says only that its value does not match the schema
// `false`, and is left out.
export const isInformative = ({ keyword }: SchemaViolation) => keyword !== 'boolean'

/**
 * Converts a violation for the response. The pointer (RFC 6901) leads to the invalid value. For a missing or unexpected
 * member, the pointer leads to the object, and the message contains the name of the member.
 */
export function toViolation({ instancePath, keyword, message, params }: SchemaViolation) {
  const names = (params.requiredProperties ?? params.additionalProperties) as string[] | undefined
  return { pointer: instancePath, keyword, message: names ? `${message}: ${names.join(', ')}` : message }
}
