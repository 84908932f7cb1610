import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import { isBaseUrl, isOrigin } from '../../config.ts'
import { ProblemError } from '../../errors.ts'
import { type Site, siteAt } from '../../jobs/site.ts'
import { headerLines } from './headers.ts'

const originOf = ({ protocol, host }: FastifyRequest): string => `${protocol}://${host}`

/**
 * Creates a function that returns the site for the links in a response. Its URL is the public URL if it is configured,
 * otherwise the origin that the client called, and then the prefix. If the Host header is invalid, the URL is only the
 * prefix, and the links are relative.
 *
 * @param prefix the prefix of the routes, without a trailing slash
 * @throws TypeError if the public URL is invalid
 */
export function siteFrom(
  publicUrl: string | undefined,
  prefix: string,
  jobsPath: string,
): (request: FastifyRequest) => Site {
  if (publicUrl !== undefined) {
    if (!isBaseUrl(publicUrl)) {
      throw new TypeError(
        `publicUrl must be an http or https URL without query, like https://example.com/api, not '${publicUrl}'`,
      )
    }
    const site = siteAt(siteAt(publicUrl).url + prefix, jobsPath)
    return () => site
  }
  // Most requests have the same origin as the previous request.
  let last = { origin: '', site: siteAt(prefix, jobsPath) }
  return (request) => {
    const origin = originOf(request)
    if (origin !== last.origin) last = { origin, site: siteAt((isOrigin(origin) ? origin : '') + prefix, jobsPath) }
    return last.site
  }
}

export interface HostCheck {
  /** The path of the health routes. They need no Host, and answer to any: load balancers call them by an address. */
  healthPath?: string | false
}

/**
 * Creates an `onRequest` hook that refuses a request with an invalid Host header (RFC 9112, section 3.2), because the
 * links in our responses contain its value.
 *
 * @throws ProblemError bad-request
 */
export function checkHost({ healthPath = false }: HostCheck): onRequestHookHandler {
  // The hook parses only an origin that differs from the origin of the previous request.
  let lastValidOrigin = ''
  return (request, _reply, done) => {
    if (healthPath && request.routeOptions.url?.startsWith(`${healthPath}/`)) return done()
    const origin = originOf(request)
    if ((origin !== lastValidOrigin && !isOrigin(origin)) || headerLines(request, 'host').length > 1) {
      const message = 'Send one Host header that contains a name or an IP address, and optionally a port'
      return done(new ProblemError('bad-request', message))
    }
    lastValidOrigin = origin
    done()
  }
}
