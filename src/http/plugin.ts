import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyReply } from 'fastify'
import plugin from 'fastify-plugin'
import { Settings } from 'typebox/system'
import { collectOperations } from '../collect-operations.ts'
import type { Job } from '../jobs/job.ts'
import type { Operation } from '../operation.ts'
import type { Route } from '../operation-options.ts'
import { parseJsonStrictly } from './protocol/json.ts'
import { answerOtherMethods } from './protocol/method-not-allowed.ts'
import { documentOptions } from './protocol/openapi.ts'
import { validateHost } from './protocol/origin.ts'
import { handleError } from './protocol/problem.ts'
import { limitRate } from './protocol/rate-limit.ts'
import { sendAccepted } from './protocol/send-accepted.ts'
import { apiHealthRoutes } from './routes/api-health.ts'
import { cancelAndRetryRoutes } from './routes/cancel-and-retry.ts'
import { docsRoutes } from './routes/docs.ts'
import { eventRoutes } from './routes/events.ts'
import { jobListRoute } from './routes/job-list.ts'
import { jobMonitorRoute } from './routes/job-monitor.ts'
import { jobPageAssetRoutes } from './routes/job-page.ts'
import { type RequestMetrics, requestMetrics } from './routes/request-metrics.ts'
import { resultRoute } from './routes/result.ts'
import { submitRoute } from './routes/submit.ts'
import { webhookRoutes } from './routes/webhooks.ts'
import { type AcceptedOptions, createAccepted, openService, type Service } from './service.ts'
import { socketOptions } from './streams/websocket.ts'

async function register(app: FastifyInstance, options: AcceptedOptions): Promise<void> {
  const service = await openService(app, collectOperations(options.operations), options)
  decorate(app, service, options)

  // This hook also runs for the app's own routes, because `reply.accepted` sends links that contain the Host header.
  if (options.publicUrl === undefined) app.addHook('onRequest', validateHost())
  const pluginRoutes = new Set<string>()
  answerOtherMethods(app, (url) => pluginRoutes.has(url))
  // This plugin must be registered before the routes, because it collects each route when the route is added.
  if (!app.hasDecorator('swagger')) await app.register(swagger, documentOptions)
  // Our routes have their own scope, so that our parsers, validators and error handler do not affect the app's routes.
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
  apiHealthRoutes(scope, service.database)
  const metrics = requestMetrics(scope, service)
  metrics.measure(scope)
  docsRoutes(scope, service)
  jobPageAssetRoutes(scope)
  await scope.register(swaggerUi, { routePrefix: '/docs' })
  await scope.register(async (guardedScope) => {
    guardedScope.addHook('onRequest', scope.accepted.authenticate)
    if (options.rateLimit) limitRate(guardedScope, options.rateLimit)
    registerGuardedRoutes(guardedScope, service, metrics)
  })
}

function registerGuardedRoutes(scope: FastifyInstance, service: Service, metrics: RequestMetrics): void {
  jobMonitorRoute(scope, service)
  resultRoute(scope, service)
  jobListRoute(scope, service)
  cancelAndRetryRoutes(scope, service)
  eventRoutes(scope, service)
  webhookRoutes(scope, service)
  for (const operation of service.operations.values()) {
    if (operation.route) submitRoute(scope, service, operation as Operation & { route: Route }, metrics)
  }
}

// The default limit of TypeBox is 8 violations. Without a limit, the response could be much larger than the request.
Settings.Set({ maxErrors: 100 })

/**
 * Sets up strict JSON parsing, TypeBox validation, and problem details for every error. The validation does not convert
 * values in bodies to other types.
 */
export function useApiConventions(app: FastifyInstance): void {
  // Header schemas are only for the OpenAPI document. The code that reads a header also validates it.
  app.setValidatorCompiler((route) => (route.httpPart === 'headers' ? () => true : TypeBoxValidatorCompiler(route)))
  app.setErrorHandler(handleError)
  parseJsonStrictly(app)
}

/**
 * The Fastify plugin. It adds the routes of the operations, of their jobs and of webhook endpoints. It also adds routes
 * for health, metrics and documentation. Run `accepted migrate` first.
 */
export const accepted = plugin(register, { name: 'accepted', fastify: '5.x' })
