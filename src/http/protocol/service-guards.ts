import type { FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { isBearerToken } from '../../primitives/bearer-token.ts'
import { isLoopbackAddress } from '../../primitives/networks.ts'
import { isOperator } from '../../scopes.ts'
import type { AcceptedOptions } from '../options.ts'

type Hook = (request: FastifyRequest) => Promise<void>

/**
 * Creates an `onRequest` hook for the metrics route. It serves a request with the token, or of a principal with the scope
 * `operate` or `admin`. While there is neither a token nor an API key, it serves requests of this machine.
 *
 * @throws ProblemError unauthenticated, forbidden
 */
export function guardMetrics(authenticate: Hook, options: AcceptedOptions): Hook {
  const { metricsToken } = options
  const isOpenHere = metricsToken === undefined && options.authenticate === undefined
  return async (request) => {
    if (metricsToken !== undefined && isBearerToken(request.headers.authorization, metricsToken)) return
    await authenticate(request)
    const { scopes, keyId, ip, socket } = request
    if (isOperator(scopes)) return
    // A client behind a trusted proxy may choose its address, but not that of the connection.
    const isLocal = isLoopbackAddress(ip) && isLoopbackAddress(socket.remoteAddress)
    if (isOpenHere && keyId === undefined && isLocal) return
    throw new ProblemError('forbidden', 'The metrics require METRICS_TOKEN, or the scope operate or admin')
  }
}

/**
 * Creates an `onRequest` hook for the documentation. It serves every caller that may send requests. A browser cannot send
 * an API key as a Bearer token, so it may send the key as the password of HTTP's Basic authentication (RFC 7617).
 *
 * @throws ProblemError unauthenticated
 */
export function guardDocs(authenticate: Hook, options: AcceptedOptions): Hook {
  if (options.authenticate) return authenticate
  // Chromium reads only the first challenge of a header line, so each challenge needs a line of its own.
  const headers = { 'www-authenticate': ['Bearer', 'Basic realm="API key as the password", charset="UTF-8"'] }
  return async (request) => {
    const password = passwordOf(request.headers.authorization)
    if (password !== undefined) request.headers.authorization = `Bearer ${password}`
    try {
      await authenticate(request)
    } catch (error) {
      if (!(error instanceof ProblemError) || error.code !== 'unauthenticated') throw error
      throw new ProblemError('unauthenticated', undefined, { headers, cause: error })
    }
  }
}

function passwordOf(authorization: string | undefined): string | undefined {
  const [, encoded] = authorization?.match(/^Basic +([\w+/=-]+)$/i) ?? []
  return (
    encoded &&
    Buffer.from(encoded, 'base64')
      .toString()
      .replace(/^[^:]*:/, '')
  )
}
