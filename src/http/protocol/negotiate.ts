import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import Negotiator from 'negotiator'
import { ProblemError } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether the route also takes a form of one of our pages, and answers it with a page. */
    acceptsForm?: boolean
  }
}

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

/**
 * Returns whether the answer to a refused request is a page: for the navigations and the forms of a browser, which prefer
 * pages to JSON.
 */
export function wantsPage({ method, headers, routeOptions }: FastifyRequest): boolean {
  if (method !== 'GET' && method !== 'HEAD' && !routeOptions?.config?.acceptsForm) return false
  if (!headers.accept?.includes('text/html')) return false
  const accept = headers.accept.replace(mediaTypeParameters, '').trim()
  const available = ['application/problem+json', 'application/json', 'text/html']
  return new Negotiator({ headers: { accept } }).mediaType(available) === 'text/html'
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
