import type { FastifyInstance } from 'fastify'
import findMyWay, { type HTTPMethod } from 'find-my-way'
import { ProblemError } from '../../errors.ts'
import { pathOf, sendProblem } from './problem.ts'

const methods: readonly HTTPMethod[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/**
 * Answers a request if its path has routes, but no route for its method. OPTIONS gets 204, and any other method gets
 * 405. Both responses have the header `Allow` (RFC 9110, sections 9.3.7 and 15.5.6). Call this function before the
 * routes are added.
 *
 * @param isOwnRoute returns whether the hook must answer for the route with this URL pattern
 */
export function answerOtherMethods(app: FastifyInstance, isOwnRoute: (url: string) => boolean): void {
  const routes = findMyWay()
  app.addHook('onRoute', ({ method, url }) => {
    for (const routeMethod of [method].flat() as HTTPMethod[]) {
      // Fastify may call this hook twice for the same method and URL.
      const isNew = methods.includes(routeMethod) && !routes.hasRoute(routeMethod, url)
      if (isNew) routes.on(routeMethod, url, () => {}, { url })
    }
  })
  app.addHook('onRequest', (request, reply, done) => {
    if (!request.is404) return done()
    const path = pathOf(request)
    const allowed = methods.filter((method) => routes.find(method, path))
    const [first] = allowed
    if (!first || !isOwnRoute(routes.find(first, path)?.store.url)) return done()
    reply.header('allow', [...allowed, 'OPTIONS'].join(', '))
    if (request.method === 'OPTIONS') return void reply.code(204).send()
    sendProblem(request, reply, new ProblemError('method-not-allowed', `${path} does not support ${request.method}`))
  })
}
