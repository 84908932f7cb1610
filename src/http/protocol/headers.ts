import type { FastifyRequest } from 'fastify'
import Type from 'typebox'

/** Descriptions for the OpenAPI document. Fastify does not validate these headers: each is checked where it is read. */
const requestHeaderTypes = {
  prefer: Type.String({
    description: 'RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async`',
  }),
  'idempotency-key': Type.String({ description: 'Repeating a request with the same key returns the same job' }),
  'accepted-webhook': Type.String({
    description: 'The id of a webhook endpoint; only this endpoint is notified when the job ends',
  }),
  traceparent: Type.String({ description: 'W3C trace context' }),
  'if-none-match': Type.String({
    description: '304 if this ETag is current; with `Prefer: wait`, the request first waits for a change',
  }),
  'if-match': Type.String({ description: '412 if this ETag is no longer current' }),
  'last-event-id': Type.String({ description: 'Resume after this event' }),
} as const

/** Declares the headers that a route reads. */
export const requestHeaders = (...names: (keyof typeof requestHeaderTypes)[]) =>
  Type.Object(Object.fromEntries(names.map((name) => [name, Type.Optional(requestHeaderTypes[name])])))

/** Returns all lines of a header. Unlike `request.headers`, it does not join repeated lines into one value. */
export function headerLines({ raw: { rawHeaders } }: FastifyRequest, name: string): string[] {
  return rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name)
}
