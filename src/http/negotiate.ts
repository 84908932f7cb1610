import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import Negotiator from 'negotiator'
import { ProblemError } from '../errors.ts'

/** A kind of representation. */
export type MediaType = 'application/json' | 'text/html' | 'text/event-stream'

// Those that are not the weight: clients name charsets and dialects, and take the type without them.
const parameters = /;(?!\s*q\s*=)\s*[^\s;,="]*(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?/gi

/**
 * Which of the kinds the client likes best (RFC 9110, section 12.5.1); the first one when it does not care.
 *
 * @throws ProblemError not-acceptable
 */
export function negotiate(request: FastifyRequest, available: readonly [MediaType, ...MediaType[]]): MediaType {
  // An empty one is like none.
  const accept = request.headers.accept?.replace(parameters, '').trim() || '*/*'
  if (accept === '*/*') return available[0]
  const type = new Negotiator({ headers: { accept } }).mediaType([...available]) as MediaType | undefined
  if (!type) {
    throw new ProblemError('not-acceptable', `Here is ${available.join(', ')}, and nothing of what Accept asks for`)
  }
  return type
}

/** An `onRequest` hook for routes that answer in JSON only. */
export const acceptsJson: onRequestHookHandler = (request, _reply, done) => {
  try {
    negotiate(request, ['application/json'])
    done()
  } catch (error) {
    done(error as Error)
  }
}
