import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { type Site, siteAt } from '../../jobs/site.ts'
import { isBaseUrl, isOrigin } from '../../origins.ts'
import { isLoopbackHost } from '../../primitives/networks.ts'
import type { Settings } from '../../settings.ts'
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
  let last = { protocol: '', host: '', site: siteAt(prefix, jobsPath) }
  return (request) => {
    const { protocol, host } = request
    if (host !== last.host || protocol !== last.protocol) {
      const origin = originOf(request)
      last = { protocol, host, site: siteAt((isOrigin(origin) ? origin : '') + prefix, jobsPath) }
    }
    return last.site
  }
}

export interface HostCheck {
  /** The path of the health routes. They need no Host, and answer to any: load balancers call them by an address. */
  healthPath?: string | false
  /** Returns whether the server answers requests for this host. Default: it answers to any host. */
  isServed?: (url: URL) => boolean
}

/**
 * Creates an `onRequest` hook that refuses a request with an invalid Host header (RFC 9112, section 3.2), because the
 * links in our responses contain its value. It also refuses a host that is not served.
 *
 * @throws ProblemError bad-request, misdirected-request
 */
export function checkHost({ healthPath = false, isServed = () => true }: HostCheck): onRequestHookHandler {
  // The hook parses only an origin that differs from the origin of the previous request.
  let lastServedOrigin = ''
  return (request, _reply, done) => {
    if (healthPath && request.routeOptions.url?.startsWith(`${healthPath}/`)) return done()
    const origin = originOf(request)
    if ((origin !== lastServedOrigin && !isOrigin(origin)) || headerLines(request, 'host').length > 1) {
      const message = 'Send one Host header that contains a name or an IP address, and optionally a port'
      return done(new ProblemError('bad-request', message))
    }
    if (origin !== lastServedOrigin && !isServed(new URL(origin))) return done(new ProblemError('misdirected-request'))
    lastServedOrigin = origin
    done()
  }
}

/**
 * Returns which hosts `accepted api` serves: the names of this machine's loopback interface, the host of PUBLIC_URL and
 * those in HOSTS. A web page can make its own host name resolve to any address (DNS rebinding), but cannot send one of
 * these names.
 */
export function servedHosts({ HOSTS = '', PUBLIC_URL }: Settings): (url: URL) => boolean {
  const names = HOSTS.split(',').map((name) => name.trim())
  if (names.includes('*')) return () => true
  const urls = [...names.map((name) => URL.parse(`http://${name}`)), URL.parse(PUBLIC_URL ?? '')]
  const served = new Set(urls.flatMap((url) => (url ? hostnameOf(url) : [])))
  return (url) => isLoopbackHost(hostnameOf(url)) || served.has(hostnameOf(url))
}

/** Returns the host name without the brackets of an IPv6 address and without the trailing dot of a full name. */
const hostnameOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$|\.$/g, '')
