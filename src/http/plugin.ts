import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { collectOperations } from '../collect-operations.ts'
import { rowOf } from '../connect/show.ts'
import type { Monitor } from '../jobs/monitor-schema.ts'
import type { Operation } from '../operation.ts'
import type { Route } from '../operation-options.ts'
import { requireScopes } from './access.ts'
import { requestProperties } from './authenticate.ts'
import { consoleRoutes } from './console/routes.ts'
import type { AcceptedOptions } from './options.ts'
import { allowCommitted, sendCommitted } from './protocol/committed.ts'
import { parseJsonStrictly } from './protocol/json.ts'
import { answerOtherMethods } from './protocol/method-not-allowed.ts'
import { documentRoutes, hideFromOtherDocuments } from './protocol/openapi.ts'
import { checkHost } from './protocol/origin.ts'
import { shedLoad } from './protocol/overload.ts'
import { handleError } from './protocol/problem.ts'
import { defaultRateLimit, limitRate } from './protocol/rate-limit.ts'
import { sendSecurityHeaders } from './protocol/security-headers.ts'
import { sendAccepted } from './protocol/send-accepted.ts'
import { guardDocs, guardMetrics } from './protocol/service-guards.ts'
import { problemPathsOf } from './route-paths.ts'
import { apiHealthRoutes } from './routes/api-health.ts'
import { batchRoute } from './routes/batches.ts'
import { cancelAndRetryRoutes } from './routes/cancel-and-retry.ts'
import { docsRoutes } from './routes/docs.ts'
import { eventRoutes, refuseUpgrade } from './routes/events.ts'
import { jobLinksRoute } from './routes/job-links.ts'
import { jobListRoute } from './routes/job-list.ts'
import { jobMonitorRoute } from './routes/job-monitor.ts'
import { jobPageAssetRoutes } from './routes/job-page.ts'
import { keyRoutes } from './routes/keys.ts'
import { type RequestMetrics, requestMetrics } from './routes/request-metrics.ts'
import { resultRoute } from './routes/result.ts'
import { submitRoute } from './routes/submit.ts'
import { webhookRoutes } from './routes/webhooks.ts'
import { createFastifyAccepted, type FastifyAccepted, openService, type Service } from './service.ts'

/** Registers the routes of the plugin, with the connections and the watcher that they use. */
export async function register(app: FastifyInstance, options: AcceptedOptions): Promise<void> {
  const service = await openService(app, collectOperations(options.operations), options)
  const api = createFastifyAccepted(app, service, options)
  // If the app registers the plugin twice in one scope, the scope keeps the decorators of the first.
  if (!Object.hasOwn(app, 'accepted')) decorate(app, service, api)
  // The app's own routes may also answer for a committed job, with `reply.accepted`.
  app.addHook('onError', (_request, reply, error, done) => {
    sendCommitted(reply, error)
    done()
  })
  // Our routes have their own scope, so that our parsers, validators and error handler do not affect the app's routes.
  await app.register(
    async (scope) => {
      decorate(scope, service, api)
      await registerRoutes(scope, service, options)
    },
    { prefix: options.prefix ?? '' },
  )
}

function decorate(scope: FastifyInstance, service: Service, api: FastifyAccepted): void {
  scope.decorate('accepted', api)
  for (const name of requestProperties) {
    if (!scope.hasRequestDecorator(name)) scope.decorateRequest(name)
  }
  allowCommitted(scope)
  scope.decorateReply('accepted', function (this: FastifyReply, job: Monitor) {
    const row = rowOf(job)
    if (row) return sendAccepted(service, this, row)
    throw new TypeError('reply.accepted needs a job as app.accepted has returned it, for example its enqueue')
  })
}

async function registerRoutes(scope: FastifyInstance, service: Service, options: AcceptedOptions): Promise<void> {
  const { paths, prefix } = service
  const { rateLimit = defaultRateLimit } = options
  const problemPaths = problemPathsOf(service)
  scope.decorate('problemPaths', problemPaths)
  refuseDuplicates(scope)
  answerOtherMethods(scope, problemPaths, service.cors)
  hideFromOtherDocuments(scope)
  await documentRoutes(scope, service)
  useApiConventions(scope)
  // A serializer of the app is for the app's responses.
  scope.setSerializerCompiler(() => JSON.stringify)
  scope.setReplySerializer((payload) => JSON.stringify(payload))
  sendSecurityHeaders(scope, service.siteOf)
  if (options.corsOrigins) service.cors.apply(scope)
  const served = [paths.health && `${paths.health}/live`, paths.health && `${paths.health}/ready`, paths.metrics]
  shedLoad(scope, (url) => served.some((path) => path && url === prefix + path))
  scope.addHook('onRequest', refuseUpgrade)
  if (options.publicUrl === undefined) {
    scope.addHook('onRequest', checkHost({ healthPath: paths.health && prefix + paths.health }))
  }
  if (paths.health) apiHealthRoutes(scope, paths.health, service.database)
  const metrics = requestMetrics(scope, service, guardMetrics(scope.accepted.authenticate, options))
  metrics.measure(scope)
  await docsRoutes(scope, service, guardDocs(scope.accepted.authenticate, options))
  await jobPageAssetRoutes(scope, service)
  if (paths.console) await consoleRoutes(scope, service, paths.console, options)
  await scope.register(async (guardedScope) => {
    guardedScope.addHook('onRequest', scope.accepted.authenticate)
    if (rateLimit) limitRate(guardedScope, rateLimit, `${prefix}${paths.jobs}/:id`)
    await registerGuardedRoutes(guardedScope, service, metrics)
  })
}

/** Makes the error about a route that the app already has say what to do. */
function refuseDuplicates(scope: FastifyInstance): void {
  scope.addHook('onRoute', ({ method, url }) => {
    const taken = [method].flat().find((name) => scope.hasRoute({ method: name, url }))
    if (taken === undefined) return
    throw new TypeError(
      `The app already has a route ${taken} ${url}. Register accepted with a prefix, or move its routes with the ` +
        "option routes, for example { routes: { jobs: '/accepted/jobs' } }.",
    )
  })
}

async function registerGuardedRoutes(
  guardedScope: FastifyInstance,
  service: Service,
  metrics: RequestMetrics,
): Promise<void> {
  const { webhooks, batches, keys } = service.paths
  await guardedScope.register(async (scope) => {
    requireScopes(scope)
    jobMonitorRoute(scope, service)
    resultRoute(scope, service)
    jobListRoute(scope, service)
    jobLinksRoute(scope, service)
    cancelAndRetryRoutes(scope, service)
    eventRoutes(scope, service)
    if (batches) batchRoute(scope, service, batches, metrics)
    for (const operation of service.operations.values()) {
      if (operation.route) submitRoute(scope, service, operation as Operation & { route: Route }, metrics)
    }
  })
  await guardedScope.register(async (scope) => {
    requireScopes(scope, 'administer')
    if (webhooks) webhookRoutes(scope, service)
    if (keys) keyRoutes(scope, service, keys)
  })
}

/**
 * Sets up strict JSON parsing, TypeBox validation, and problem details for every error. The validation does not convert
 * values in bodies to other types.
 *
 * @param errorHandler default: the one for the plugin's own routes
 */
export function useApiConventions(app: FastifyInstance, errorHandler = handleError): void {
  // Header schemas are only for the OpenAPI document. The code that reads a header also validates it.
  app.setValidatorCompiler((route) => (route.httpPart === 'headers' ? () => true : TypeBoxValidatorCompiler(route)))
  app.setErrorHandler(errorHandler)
  parseJsonStrictly(app)
}
