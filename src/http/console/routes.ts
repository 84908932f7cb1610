import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import type { AcceptedOptions } from '../options.ts'
import { findUnstorable } from '../protocol/json.ts'
import { asProblem, reportProblem } from '../protocol/problem.ts'
import { defaultRateLimit, limitRate } from '../protocol/rate-limit.ts'
import type { Service } from '../service.ts'
import { guardConsole, LoginRequired, refuseForeignForms } from './access.ts'
import { assetRoutes } from './assets.ts'
import { ConsoleContext } from './context.ts'
import { html } from './html.ts'
import { loginRoutes, redirectToLogin } from './login.ts'
import { pages } from './pages/index.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Which callers may open a route of the console. */
    console?: 'public' | 'operator'
  }
}

/** Adds the console: pages for the operators of the jobs of all principals. */
export async function consoleRoutes(
  app: FastifyInstance,
  service: Service,
  path: string,
  options: AcceptedOptions,
): Promise<void> {
  const navigation = pages.flatMap(({ path, label }) => (label === undefined ? [] : [{ path, label }]))
  const context = new ConsoleContext(service, path, navigation)
  const { rateLimit = defaultRateLimit } = options
  await app.register(
    async (scope) => {
      scope.addHook('onRoute', (route) => {
        route.schema = { ...route.schema, hide: true }
      })
      parseForms(scope)
      scope.setErrorHandler((error, request, reply) => handleError(context, error, request, reply))
      scope.addHook('onRequest', refuseForeignForms(service))
      scope.addHook('preHandler', refuseUnstorable)
      await scope.register(async (open) => {
        markRoutes(open, 'public')
        await assetRoutes(open)
        loginRoutes(open, context, options)
      })
      await scope.register(async (guarded) => {
        markRoutes(guarded, 'operator')
        guarded.addHook('onRequest', guardConsole(service, app.accepted.authenticate, options))
        if (rateLimit) limitRate(guarded, rateLimit, `${service.prefix}${path}/jobs/:id`)
        for (const page of pages) page.addRoutes(guarded, context)
      })
    },
    { prefix: path },
  )
}

function markRoutes(scope: FastifyInstance, access: 'public' | 'operator'): void {
  scope.addHook('onRoute', (route) => {
    route.config = { ...route.config, console: access }
  })
}

/** Parses what forms send. Of several values with one name, the last counts. */
function parseForms(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body as string))),
  )
}

async function refuseUnstorable(request: FastifyRequest): Promise<void> {
  // A form without values.
  request.body ??= {}
  const { params, query, body } = request
  if (findUnstorable({ params, query, body }).length === 0) return
  throw new ProblemError('invalid-parameter', 'A value has characters that Postgres cannot store')
}

/** Answers every error with a page. */
function handleError(
  context: ConsoleContext,
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  if (reply.sent) return reply
  if (thrown instanceof LoginRequired) return redirectToLogin(context, request, reply)
  const problem = asProblem(thrown)
  reportProblem(problem, thrown, request)
  if (problem.retryAfterSeconds) reply.header('retry-after', problem.retryAfterSeconds)
  reply.headers(problem.headers as Record<string, string>)
  const body = html`<p class="notice error" role="alert">${problem.message}</p>
<p><a href="${context.base}">To the overview</a></p>`
  return context.send(reply, { title: `${problem.status} ${problem.code}`, body }, problem.status)
}
