import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { ProblemError } from '../errors.ts'

/** A kind of representation. */
export type MediaType = 'application/json' | 'text/html' | 'text/event-stream'

/**
 * Which of the kinds the client likes best (RFC 9110, section 12.5.1); the first one when it does not care.
 *
 * @throws ProblemError not-acceptable
 */
export function negotiate(request: FastifyRequest, available: readonly [MediaType, ...MediaType[]]): MediaType {
  // A client may name the charset, which only matches one that is named.
  const offered = available.flatMap((type) => [type, `${type}; charset=utf-8`, `${type}; charset=UTF-8`])
  const best = new Negotiator(request.raw).mediaType(offered)
  const type = available.find((one) => best?.startsWith(one))
  if (!type) {
    throw new ProblemError('not-acceptable', `Here is ${available.join(', ')}, and nothing of what Accept asks for`)
  }
  return type
}

/** An `onRequest` hook for routes that answer in JSON only. */
export async function acceptsJson(request: FastifyRequest): Promise<void> {
  negotiate(request, ['application/json'])
}
