import type { FastifyInstance } from 'fastify'
import findMyWay, { type HTTPMethod } from 'find-my-way'
import { ProblemError } from '../../errors.ts'
import type { Cors } from './cors.ts'
import { type ProblemPaths, sendProblem } from './problem.ts'
import { pathOf } from './request-target.ts'

const methods: readonly HTTPMethod[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/**
 * Answers a request if a scope has routes for its path, but no route of the app has its method. OPTIONS gets 204, and
 * any other method gets 405. Both responses have the header `Allow` (RFC 9110, sections 9.3.7 and 15.5.6). Call this
 * function before the routes of the scope are added.
 *
 * @param paths the paths in the problem details; default: those of an API without prefix
 * @param cors answers preflights; default: pages of other origins may not send requests
 */
export function answerOtherMethods(scope: FastifyInstance, paths?: ProblemPaths, cors?: Cors): void {
  const root = rootOf(scope)
  const patterns = findMyWay()
  scope.addHook('onRoute', ({ url }) => {
    if (!patterns.hasRoute('GET', url)) patterns.on('GET', url, () => {}, { url })
  })
  root.addHook('onRequest', (request, reply, done) => {
    if (!request.is404) return done()
    // Asks about the server as a whole (RFC 9110, section 9.3.7).
    if (scope === root && request.method === 'OPTIONS' && request.url === '*') {
      return void reply
        .code(204)
        .header('allow', [...methods, 'OPTIONS'].join(', '))
        .send()
    }
    const path = pathOf(request)
    const url = patterns.find('GET', path)?.store.url
    const allowed = methods.filter((method) => url !== undefined && root.hasRoute({ method, url }))
    if (allowed.length === 0) return done()
    reply.header('allow', [...allowed, 'OPTIONS'].join(', '))
    if (request.method === 'OPTIONS') {
      cors?.answerPreflight(request, reply, allowed)
      return void reply.code(204).send()
    }
    const problem = new ProblemError('method-not-allowed', `${path} does not support ${request.method}`)
    sendProblem(request, reply, problem, paths)
  })
}

/** Returns the outermost scope: Fastify runs only its hooks for a request without a route. */
function rootOf(scope: FastifyInstance): FastifyInstance {
  const parent = Object.getPrototypeOf(scope)
  return parent === Object.prototype ? scope : rootOf(parent)
}
