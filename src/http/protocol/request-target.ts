import type { IncomingMessage } from 'node:http'
import type { FastifyRequest } from 'fastify'

/** The scheme and authority of a request target in absolute form (RFC 9112, section 3.2.2). */
const absoluteForm = /^https?:\/\/([^/?#]*)/i

/**
 * A `rewriteUrl` of Fastify that turns `GET http://host/path` into a request for `/path` with `Host: host`. The Host
 * header of such a request does not count (RFC 9112, section 3.2.2).
 */
export function toOriginForm({ url = '', headers }: Pick<IncomingMessage, 'url' | 'headers'>): string {
  if (url.startsWith('/')) return url
  const [origin, authority] = url.match(absoluteForm) ?? []
  if (origin === undefined) return url
  headers.host = authority
  const rest = url.slice(origin.length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** Returns the path of a request. Leaves out the query, because a query may contain secrets. */
export function pathOf({ url }: Pick<FastifyRequest, 'url'>): string {
  const target = url.startsWith('/') ? url : url.replace(absoluteForm, '')
  const end = target.search(/[?#]/)
  return (end < 0 ? target : target.slice(0, end)) || '/'
}

/** Returns the query of a request without the question mark. */
export const queryOf = ({ url }: Pick<FastifyRequest, 'url'>): string =>
  url.split('#', 1)[0]?.split('?').slice(1).join('?') ?? ''
