import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import { isOrigin } from '../../config.ts'
import { ProblemError } from '../../errors.ts'
import { headerLines } from './headers.ts'

/**
 * Creates a function that returns the origin for the links in a response. This is the public URL if it is configured.
 * Otherwise it is the origin that the client called.
 *
 * @throws TypeError if the public URL is not an origin
 */
export function originFrom(publicUrl: string | undefined): (request: FastifyRequest) => string {
  if (publicUrl !== undefined && !isOrigin(publicUrl)) {
    throw new TypeError(`publicUrl must be an http or https origin without a path, not '${publicUrl}'`)
  }
  return (request) => publicUrl ?? `${request.protocol}://${request.host}`
}

/**
 * Creates an `onRequest` hook that refuses a request with an invalid Host header (RFC 9112, section 3.2). The links in
 * our responses contain the value of this header.
 *
 * @throws ProblemError bad-request
 */
export function validateHost(): onRequestHookHandler {
  // Most requests have the same origin as the previous request. The hook checks only a new origin.
  let lastValidOrigin = ''
  return (request, _reply, done) => {
    // Health routes send no links. Load balancers may call them over HTTP/1.0 without a Host header.
    if (request.routeOptions.url?.startsWith('/health/')) return done()
    const origin = `${request.protocol}://${request.host}`
    if ((origin === lastValidOrigin || isOrigin(origin)) && headerLines(request, 'host').length <= 1) {
      lastValidOrigin = origin
      return done()
    }
    done(
      new ProblemError(
        'bad-request',
        'Send one Host header that contains a name or an IP address, and optionally a port',
      ),
    )
  }
}
