import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import Negotiator from 'negotiator'
import { ProblemError } from '../../errors.ts'

export type MediaType = 'application/json' | 'text/html' | 'text/event-stream'

// Matches all parameters except `q`. They are removed, so that `text/html; charset=utf-8` matches `text/html`.
const mediaTypeParameters = /;(?!\s*q\s*=)\s*[^\s;,="]*(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?/gi

/**
 * Chooses the media type that the client prefers (RFC 9110, section 12.5.1). If the client has no preference, chooses
 * the first available type.
 *
 * @throws ProblemError not-acceptable
 */
export function negotiate(request: FastifyRequest, available: readonly [MediaType, ...MediaType[]]): MediaType {
  // An empty Accept header counts as an absent header.
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

/** An `onRequest` hook for routes that answer only in JSON. */
export const acceptsJson: onRequestHookHandler = (request, _reply, done) => {
  try {
    negotiate(request, ['application/json'])
    done()
  } catch (error) {
    done(error as Error)
  }
}
