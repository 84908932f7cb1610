import type { FastifyRequest } from 'fastify'
import Type from 'typebox'

/** The request headers in the OpenAPI document. Fastify does not validate them. The code that reads a header does. */
const requestHeaderTypes = {
  prefer: Type.String({
    description: 'RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async`',
  }),
  'idempotency-key': Type.String({ description: 'A repeated request with the same key gets the same job' }),
  'accepted-webhook': Type.String({
    description: 'The id of a webhook endpoint; only this endpoint is notified when the job ends',
  }),
  traceparent: Type.String({ description: 'W3C trace context' }),
  tracestate: Type.String({ description: 'W3C trace context: what belongs to traceparent' }),
  'if-none-match': Type.String({
    description:
      'The answer is 304 if this ETag is current. With `Prefer: wait`, the request first waits for a change.',
  }),
  'if-match': Type.String({ description: 'The answer is 412 if this ETag is no longer current' }),
  'last-event-id': Type.String({ description: 'The id of the last received event. The stream resumes after it.' }),
} as const

/** Declares the headers that a route reads. */
export const requestHeaders = (...names: (keyof typeof requestHeaderTypes)[]) =>
  Type.Object(Object.fromEntries(names.map((name) => [name, Type.Optional(requestHeaderTypes[name])])))

/** Returns the value of each line of a header. In contrast, `request.headers` joins repeated lines into one value. */
export function headerLines({ raw: { headers, rawHeaders } }: FastifyRequest, name: string): string[] {
  const lines: string[] = []
  if (headers[name] === undefined) return lines
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (isNamed(rawHeaders[index] as string, name)) lines.push(rawHeaders[index + 1] as string)
  }
  return lines
}

/** Returns whether a header, as it was sent, has a name in lower case. */
export const isNamed = (header: string, name: string): boolean =>
  header.length === name.length && header.toLowerCase() === name
