import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyReply } from 'fastify'
import plugin from 'fastify-plugin'
import { Settings } from 'typebox/system'
import type { Job } from '../jobs/job.ts'
import { type Operation, operationsIn, type Route } from '../operation.ts'
import { allowMethods } from './allow.ts'
import { asyncapiRoute } from './asyncapi.ts'
import { controlRoutes } from './control.ts'
import { eventRoutes } from './events.ts'
import { parseJsonStrictly } from './json.ts'
import { listRoute } from './list.ts'
import { metricsRoute } from './metrics.ts'
import { documentOptions } from './openapi.ts'
import { requireHost } from './origin.ts'
import { assetRoutes } from './page.ts'
import { handleError } from './problem.ts'
import { limitRate } from './rate-limit.ts'
import { sendAccepted } from './send-accepted.ts'
import { type AcceptedOptions, open } from './service.ts'
import { documentRoutes, healthRoutes } from './service-routes.ts'
import { statusRoutes } from './status.ts'
import { submitRoute } from './submit.ts'
import { webhookRoutes } from './webhooks.ts'
import { socketOptions } from './websocket.ts'

async function register(app: FastifyInstance, options: AcceptedOptions): Promise<void> {
  const operations = operationsIn(options.operations)
  const { service, accepted } = await open(app, operations, options)

  app.decorate('accepted', accepted)
  app.decorateRequest('principal', '')
  app.decorateRequest('scopes')
  app.decorateReply('accepted', function (this: FastifyReply, job: Job) {
    // The job has committed by now, whether a route accepted it or the app enqueued it.
    return sendAccepted(service, this, job)
  })

  // Also for the app's own routes, which may answer with `reply.accepted`.
  if (options.publicUrl === undefined) app.addHook('onRequest', requireHost())
  const ours = new Set<string>()
  allowMethods(app, (url) => ours.has(url))
  // Before any route, for it collects them as they are added.
  if (!app.hasDecorator('swagger')) {
    await app.register(swagger, documentOptions)
  }
  // A scope of its own, so that the app's other routes keep their parsers, validators and error handlers.
  await app.register(async (scope) => {
    scope.addHook('onRoute', ({ url }) => void ours.add(url))
    useOurConventions(scope)
    if (!scope.hasRequestDecorator('ws')) await scope.register(websocket, socketOptions)
    healthRoutes(scope, service.database)
    documentRoutes(scope)
    const metrics = metricsRoute(scope, service)
    metrics.measure(scope)
    assetRoutes(scope)
    asyncapiRoute(scope, service)
    await scope.register(swaggerUi, { routePrefix: '/docs' })
    await scope.register(async (guarded) => {
      guarded.addHook('onRequest', accepted.authenticate)
      if (options.rateLimit) limitRate(guarded, options.rateLimit)
      statusRoutes(guarded, service)
      listRoute(guarded, service)
      controlRoutes(guarded, service)
      eventRoutes(guarded, service)
      webhookRoutes(guarded, service)
      for (const operation of operations.values()) {
        if (operation.route) submitRoute(guarded, service, operation as Operation & { route: Route }, metrics)
      }
    })
  })
}

// TypeBox stops at 8; without an end, a body could make an answer many times its size.
Settings.Set({ maxErrors: 100 })

/** Strict JSON, TypeBox validation without coercion of bodies, and problem details for every error. */
export function useOurConventions(app: FastifyInstance): void {
  // Headers are declared for the documents, and checked where they are read.
  app.setValidatorCompiler((route) => (route.httpPart === 'headers' ? () => true : TypeBoxValidatorCompiler(route)))
  app.setErrorHandler(handleError)
  parseJsonStrictly(app)
}

/**
 * The Fastify plugin: the routes of the operations, the status routes, health and documentation.
 * Run `accepted migrate` first.
 */
export const accepted = plugin(register, { name: 'accepted', fastify: '5.x' })
