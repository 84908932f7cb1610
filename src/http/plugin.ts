import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyReply } from 'fastify'
import plugin from 'fastify-plugin'
import { Settings } from 'typebox/system'
import { collectOperations } from '../collect-operations.ts'
import type { Job } from '../jobs/job.ts'
import type { Operation, Route } from '../operation.ts'
import { allowMethods } from './protocol/allow.ts'
import { parseJsonStrictly } from './protocol/json.ts'
import { documentOptions } from './protocol/openapi.ts'
import { validateHost } from './protocol/origin.ts'
import { handleError } from './protocol/problem.ts'
import { limitRate } from './protocol/rate-limit.ts'
import { sendAccepted } from './protocol/send-accepted.ts'
import { cancelAndRetryRoutes } from './routes/cancel-and-retry.ts'
import { docsRoutes } from './routes/docs.ts'
import { eventRoutes } from './routes/events.ts'
import { healthRoutes } from './routes/health.ts'
import { listRoute } from './routes/list.ts'
import { monitorRoute } from './routes/monitor.ts'
import { assetRoutes } from './routes/page.ts'
import { type RequestMetrics, requestMetrics } from './routes/request-metrics.ts'
import { resultRoute } from './routes/result.ts'
import { submitRoute } from './routes/submit.ts'
import { webhookRoutes } from './routes/webhooks.ts'
import { type AcceptedOptions, createAccepted, openService, type Service } from './service.ts'
import { socketOptions } from './streams/websocket.ts'

async function register(app: FastifyInstance, options: AcceptedOptions): Promise<void> {
  const service = await openService(app, collectOperations(options.operations), options)
  decorate(app, service, options)

  // Also for the app's own routes: with `reply.accepted` they send our links, which contain Host.
  if (options.publicUrl === undefined) app.addHook('onRequest', validateHost())
  const pluginRoutes = new Set<string>()
  allowMethods(app, (url) => pluginRoutes.has(url))
  // Registered before all routes, because it collects them as they are added.
  if (!app.hasDecorator('swagger')) await app.register(swagger, documentOptions)
  // In a scope, so that the app's own routes keep their parsers, validators and error handlers.
  await app.register(async (scope) => {
    scope.addHook('onRoute', ({ url }) => void pluginRoutes.add(url))
    await registerRoutes(scope, service, options)
  })
}

function decorate(app: FastifyInstance, service: Service, options: AcceptedOptions): void {
  app.decorate('accepted', createAccepted(service, options.authenticate))
  app.decorateRequest('principal', '')
  app.decorateRequest('scopes')
  app.decorateReply('accepted', function (this: FastifyReply, job: Job) {
    return sendAccepted(service, this, job)
  })
}

async function registerRoutes(scope: FastifyInstance, service: Service, options: AcceptedOptions): Promise<void> {
  useApiConventions(scope)
  if (!scope.hasRequestDecorator('ws')) await scope.register(websocket, socketOptions)
  healthRoutes(scope, service.database)
  const metrics = requestMetrics(scope, service)
  metrics.measure(scope)
  docsRoutes(scope, service)
  assetRoutes(scope)
  await scope.register(swaggerUi, { routePrefix: '/docs' })
  await scope.register(async (guardedScope) => {
    guardedScope.addHook('onRequest', scope.accepted.authenticate)
    if (options.rateLimit) limitRate(guardedScope, options.rateLimit)
    registerGuardedRoutes(guardedScope, service, metrics)
  })
}

function registerGuardedRoutes(scope: FastifyInstance, service: Service, metrics: RequestMetrics): void {
  monitorRoute(scope, service)
  resultRoute(scope, service)
  listRoute(scope, service)
  cancelAndRetryRoutes(scope, service)
  eventRoutes(scope, service)
  webhookRoutes(scope, service)
  for (const operation of service.operations.values()) {
    if (operation.route) submitRoute(scope, service, operation as Operation & { route: Route }, metrics)
  }
}

// By default TypeBox reports only 8 violations. Without a limit, the answer could be many times as large as the body.
Settings.Set({ maxErrors: 100 })

/** Sets up strict JSON, TypeBox validation without coercion of bodies, and problem details for every error. */
export function useApiConventions(app: FastifyInstance): void {
  // Headers are only declared for the documents; the code that reads a header also checks it.
  app.setValidatorCompiler((route) => (route.httpPart === 'headers' ? () => true : TypeBoxValidatorCompiler(route)))
  app.setErrorHandler(handleError)
  parseJsonStrictly(app)
}

/**
 * The Fastify plugin: the routes of the operations, of their jobs, and of health, metrics and documentation. Run
 * `accepted migrate` first.
 */
export const accepted = plugin(register, { name: 'accepted', fastify: '5.x' })
