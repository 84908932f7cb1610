import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import { isOrigin } from '../config.ts'
import { ProblemError } from '../errors.ts'
import { headerLines } from './request-headers.ts'

/**
 * Makes the function that says which origin the links of an answer have: the public one, or as the client called us.
 *
 * @throws TypeError when the public URL is no origin
 */
export function originFrom(publicUrl: string | undefined): (request: FastifyRequest) => string {
  if (publicUrl !== undefined && !isOrigin(publicUrl)) {
    throw new TypeError(`publicUrl must be an http(s) origin without path, not '${publicUrl}'`)
  }
  return (request) => publicUrl ?? `${request.protocol}://${request.host}`
}

/**
 * Makes an `onRequest` hook: our links repeat Host, so it must be one (RFC 9112, section 3.2).
 *
 * @throws ProblemError bad-request
 */
export function requireHost(): onRequestHookHandler {
  // Most requests have the one before's.
  let last = ''
  return (request, _reply, done) => {
    // They have no links, and load balancers ask in HTTP/1.0 without Host.
    if (request.routeOptions.url?.startsWith('/health/')) return done()
    const origin = `${request.protocol}://${request.host}`
    if ((origin === last || isOrigin(origin)) && headerLines(request, 'host').length <= 1) {
      last = origin
      return done()
    }
    done(new ProblemError('bad-request', 'There must be one Host: a name or an IP address, and at most a port'))
  }
}
