import type { FastifyRequest } from 'fastify'
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
 * An `onRequest` hook: our links repeat Host, so it must be one (RFC 9112, section 3.2).
 *
 * @throws ProblemError bad-request
 */
export async function requireHost(request: FastifyRequest): Promise<void> {
  // They have no links, and load balancers ask in HTTP/1.0 without Host.
  if (request.routeOptions.url?.startsWith('/health/')) return
  if (isOrigin(`${request.protocol}://${request.host}`) && headerLines(request, 'host').length <= 1) return
  throw new ProblemError('bad-request', 'There must be one Host: a name or an IP address, and at most a port')
}
