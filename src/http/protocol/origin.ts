import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import { isOrigin } from '../../config.ts'
import { ProblemError } from '../../errors.ts'
import { headerLines } from './headers.ts'

/**
 * Returns a function that gives the origin of the links in an answer: the public URL if there is one, else the origin
 * that the client called.
 *
 * @throws TypeError if the public URL is not an origin
 */
export function originFrom(publicUrl: string | undefined): (request: FastifyRequest) => string {
  if (publicUrl !== undefined && !isOrigin(publicUrl)) {
    throw new TypeError(`publicUrl must be an http(s) origin without path, not '${publicUrl}'`)
  }
  return (request) => publicUrl ?? `${request.protocol}://${request.host}`
}

/**
 * Creates an `onRequest` hook that refuses an invalid Host (RFC 9112, section 3.2), because our links repeat it.
 *
 * @throws ProblemError bad-request
 */
export function validateHost(): onRequestHookHandler {
  // Saves the check for most requests, which have the same origin as the previous one.
  let lastValidOrigin = ''
  return (request, _reply, done) => {
    // Health routes send no links, and load balancers probe them with HTTP/1.0 without Host.
    if (request.routeOptions.url?.startsWith('/health/')) return done()
    const origin = `${request.protocol}://${request.host}`
    if ((origin === lastValidOrigin || isOrigin(origin)) && headerLines(request, 'host').length <= 1) {
      lastValidOrigin = origin
      return done()
    }
    done(new ProblemError('bad-request', 'Send one Host header: a name or an IP address, and optionally a port'))
  }
}
