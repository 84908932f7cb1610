import type { FastifyInstance } from 'fastify'
import findMyWay, { type HTTPMethod } from 'find-my-way'
import { ProblemError } from '../errors.ts'
import { pathOf, sendProblem } from './problem.ts'

/** The methods that routes are made for. */
const methods: readonly HTTPMethod[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/**
 * Answers requests for a path that has routes, but none for the method: 405, or 204 to OPTIONS, with `Allow` (RFC 9110,
 * sections 9.3.7 and 15.5.6). Call it before the routes are added.
 *
 * @param isOurs whether the answer is ours to give, by the path of the route
 */
export function allowMethods(app: FastifyInstance, isOurs: (url: string) => boolean): void {
  const routes = findMyWay()
  app.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat() as HTTPMethod[]) {
      // Fastify adds some twice, for example with and without a slash at the end.
      if (methods.includes(one) && !routes.hasRoute(one, url)) routes.on(one, url, () => {}, { url })
    }
  })
  app.addHook('onRequest', (request, reply, done) => {
    if (!request.is404) return done()
    const path = pathOf(request)
    const found = methods.filter((method) => routes.find(method, path))
    const [first] = found
    if (!first || !isOurs(routes.find(first, path)?.store.url)) return done()
    reply.header('allow', [...found, 'OPTIONS'].join(', '))
    if (request.method === 'OPTIONS') return void reply.code(204).send()
    sendProblem(request, reply, new ProblemError('method-not-allowed', `${request.method} is not for ${path}`))
  })
}
