import type { FastifyRequest } from 'fastify'
import Type from 'typebox'

/** Request headers, for the documents only: each is read, and checked, where it counts. */
const described = {
  prefer: Type.String({
    description: 'RFC 7240: `wait=<seconds>`, `return=minimal`, `return=representation`, `respond-async`',
  }),
  'idempotency-key': Type.String({ description: 'The same request under the same key is the same job' }),
  'accepted-webhook': Type.String({ description: 'The id of the one webhook endpoint that is told the end' }),
  traceparent: Type.String({ description: 'W3C trace context' }),
  'if-none-match': Type.String({ description: '304, or with `Prefer: wait` a long poll, while this ETag is current' }),
  'if-match': Type.String({ description: '412 when this ETag is not current' }),
  'last-event-id': Type.String({ description: 'Go on after this event' }),
} as const

/** Declares the headers that a route reads. */
export const readsHeaders = (...names: (keyof typeof described)[]) =>
  Type.Object(Object.fromEntries(names.map((name) => [name, Type.Optional(described[name])])))

/** Every field line of a header; Node joins those it does not know. */
export function headerLines({ raw: { rawHeaders } }: FastifyRequest, name: string): string[] {
  return rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name)
}
