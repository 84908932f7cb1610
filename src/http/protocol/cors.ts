import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isCorsOrigin } from '../../origins.ts'
import { headerFields } from './schemas.ts'

/** Browsers remember the answer to a preflight for this long. */
const maxAgeSeconds = 600

/** The header fields that a page may read, besides those that CORS always allows. */
const exposedHeaders = [...Object.keys(headerFields), 'Allow', 'Content-Location'].join(', ')

/** Answers requests of pages of other origins (CORS, Fetch Standard). Cookies are never allowed. */
export interface Cors {
  /** Lets pages of the allowed origins read the answers of a scope. */
  apply(scope: FastifyInstance): void
  /** Adds the headers that a preflight asks for, if its origin is allowed. */
  answerPreflight(request: FastifyRequest, reply: FastifyReply, methods: readonly string[]): void
  /** Returns whether a page of this origin may open a WebSocket. Its cookies are sent, so the origin must be listed. */
  isListed(origin: string): boolean
}

/**
 * Creates the answers for some origins.
 *
 * @param origins like `https://app.example.com`, or `*` for any
 * @throws TypeError if one of them is no origin
 */
export function createCors(origins: readonly string[]): Cors {
  for (const origin of origins) {
    if (isCorsOrigin(origin)) continue
    throw new TypeError(`corsOrigins must be origins like https://app.example.com, or *, not ${JSON.stringify(origin)}`)
  }
  const listed = new Set(origins)
  const isAny = listed.has('*')
  const allow = ({ headers: { origin } }: FastifyRequest) => {
    if (origin === undefined || !(isAny || listed.has(origin))) return undefined
    return { 'access-control-allow-origin': isAny ? '*' : origin }
  }
  const addVary = (reply: FastifyReply, ...names: string[]) => {
    const given = [reply.getHeader('vary') ?? []].flat().join(', ')
    const missing = names.filter((name) => !given.toLowerCase().split(/, */).includes(name.toLowerCase()))
    if (missing.length > 0) reply.header('vary', [given, ...missing].filter(Boolean).join(', '))
  }
  return {
    apply(scope) {
      scope.addHook('onRequest', (request, reply, done) => {
        const allowed = allow(request)
        if (allowed) reply.headers({ ...allowed, 'access-control-expose-headers': exposedHeaders })
        done()
      })
      if (isAny) return
      scope.addHook('onSend', (_request, reply, _payload, done) => {
        addVary(reply, 'Origin')
        done()
      })
    },
    answerPreflight(request, reply, methods) {
      const requested = request.headers['access-control-request-headers']
      addVary(reply, 'Origin', 'Access-Control-Request-Headers')
      const allowed = allow(request)
      if (!allowed || request.headers['access-control-request-method'] === undefined) return
      reply.headers({
        ...allowed,
        'access-control-allow-methods': methods.join(', '),
        // An origin that is allowed may send what the app's `authenticate` reads.
        ...(requested && { 'access-control-allow-headers': requested }),
        'access-control-max-age': maxAgeSeconds,
      })
    },
    isListed: (origin) => origin !== '*' && listed.has(origin),
  }
}
