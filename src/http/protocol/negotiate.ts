import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import Negotiator from 'negotiator'
import { ProblemError } from '../../errors.ts'

export type MediaType = 'application/json' | 'text/html' | 'text/event-stream'

// All parameters except the weight `q`. Clients that name a charset or another parameter also accept the plain type.
const mediaTypeParameters = /;(?!\s*q\s*=)\s*[^\s;,="]*(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?/gi

/**
 * Chooses the media type that the client prefers (RFC 9110, section 12.5.1); the first one if it has no preference.
 *
 * @throws ProblemError not-acceptable
 */
export function negotiate(request: FastifyRequest, available: readonly [MediaType, ...MediaType[]]): MediaType {
  // An empty Accept counts as an absent one.
  const accept = request.headers.accept?.replace(mediaTypeParameters, '').trim() || '*/*'
  if (accept === '*/*') return available[0]
  const type = new Negotiator({ headers: { accept } }).mediaType([...available]) as MediaType | undefined
  if (!type) {
    throw new ProblemError(
      'not-acceptable',
      `Accept matches none of the available media types: ${available.join(', ')}`,
    )
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
