import Fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyRequest } from 'fastify'
import { type Config, ConfigError } from '../config.ts'
import { showThrown } from '../error-location.ts'
import { logStream } from '../primitives/log.ts'
import { redact, serializeError } from '../primitives/redact.ts'
import { withTimeout } from '../primitives/timeout.ts'
import { databaseOptions, type Settings } from '../settings.ts'
import { importModule } from '../user-module.ts'
import { accepted } from './accepted.ts'
import { closeGracefully } from './graceful-close.ts'
import { limitPipelining } from './pipelining.ts'
import { useApiConventions } from './plugin.ts'
import { createCors } from './protocol/cors.ts'
import { checkRequestHead, requestLimits } from './protocol/limits.ts'
import { answerOtherMethods } from './protocol/method-not-allowed.ts'
import { documentRoutes } from './protocol/openapi.ts'
import { checkHost, servedHosts } from './protocol/origin.ts'
import { shedLoad } from './protocol/overload.ts'
import { handleError, handleNotFound, handleOwnError } from './protocol/problem.ts'
import { pathOf, toOriginForm } from './protocol/request-target.ts'
import { mountOf, problemPathsOf, servicePaths } from './route-paths.ts'
import type { ShareMetrics } from './routes/request-metrics.ts'

/** How long our plugin may take to load, and to connect to a slow Postgres. Fastify's default is 10 s. */
const maxStartMs = 60_000
/** How long the app's own routes may take to register. */
const maxRoutesMs = 10_000

/**
 * Creates a server with our routes and the app's own routes. Both use the same conventions and authentication.
 *
 * @param shareMetrics for one of several processes that answer requests for the metrics together
 */
export async function createApiServer(
  config: Config,
  settings: Settings,
  databaseUrl: string,
  shareMetrics?: ShareMetrics,
): Promise<FastifyInstance> {
  const app = Fastify({
    ...requestLimits,
    pluginTimeout: maxStartMs,
    // A closing server still answers requests on open connections.
    return503OnClosing: false,
    // Handles errors that occur before a route is found, for example if the path cannot be decoded.
    frameworkErrors: handleError,
    rewriteUrl: toOriginForm,
    logger: {
      level: settings.LOG_LEVEL,
      serializers: { err: (error) => serializeError(error), req: serializeRequest },
      stream: logStream(settings.LOG_FORMAT),
    },
  })
  limitPipelining(app.server)
  checkRequestHead(app)
  closeGracefully(app)
  app.addHook('onRequest', checkHost({ healthPath: servicePaths.health, isServed: servedHosts(settings) }))
  const mount = mountOf('', { routes: servicePaths, ...(settings.PUBLIC_URL && { publicUrl: settings.PUBLIC_URL }) })
  const problemPaths = problemPathsOf(mount)
  app.decorate('problemPaths', problemPaths)
  if (shareMetrics) app.decorate('shareMetrics', shareMetrics)
  const corsOrigins = settings.CORS_ORIGINS?.split(',').map((origin) => origin.trim()) ?? []
  const cors = createCors(corsOrigins)
  answerOtherMethods(app, problemPaths, cors)
  useApiConventions(app, handleOwnError)
  app.setNotFoundHandler(handleNotFound)
  // The document also describes the app's own routes.
  await documentRoutes(app, mount)
  await app.register(accepted, {
    operations: config.operations,
    routes: servicePaths,
    database: databaseOptions(settings, databaseUrl),
    ...(settings.ENCRYPTION_KEYS && { encryptionKeys: settings.ENCRYPTION_KEYS }),
    ...(config.authenticate && { authenticate: config.authenticate }),
    ...(corsOrigins.length > 0 && { corsOrigins }),
    ...(settings.METRICS_TOKEN && { metricsToken: settings.METRICS_TOKEN }),
    openLimit: settings.OPEN_LIMIT > 0 && settings.OPEN_LIMIT,
    rateLimit: settings.RATE_LIMIT > 0 && { requests: settings.RATE_LIMIT, seconds: 60 },
    allowAnonymous: settings.ALLOW_ANONYMOUS === '1',
    ...(settings.PUBLIC_URL && { publicUrl: settings.PUBLIC_URL }),
  })
  if (config.routes) {
    const { default: routes } = await importModule(config.routes)
    if (typeof routes !== 'function') {
      throw new ConfigError(`${config.routes} must export a Fastify plugin as its default export.`)
    }
    await app.register(async (scope) => {
      cors.apply(scope)
      shedLoad(scope)
      scope.addHook('onRequest', async (request) => {
        if (request.routeOptions.config.public !== true) await app.accepted.authenticate(request)
      })
      await registerRoutes(scope, config.routes as string, routes as FastifyPluginAsync)
    })
  }
  return app
}

/** Names the file in an error that does not name it: a thrown value that is no error, or a plugin that never ends. */
async function registerRoutes(scope: FastifyInstance, file: string, routes: FastifyPluginAsync): Promise<void> {
  const endless = () => new ConfigError(`${file}: the plugin never ends starting. Correct the routes.`)
  const registered = (async () => void (await scope.register(routes)))()
  try {
    await withTimeout(registered, maxRoutesMs, endless)
  } catch (cause) {
    if (cause instanceof Error) throw cause
    throw new ConfigError(`${file}: the plugin threw ${showThrown(cause)}. Correct the routes.`, { cause })
  }
}

/** Logs a request without its query, which may contain an access token. */
const serializeRequest = (request: FastifyRequest) => ({
  method: request.method,
  url: redact(pathOf(request)),
  host: request.host,
  remoteAddress: request.ip,
  ...(request.socket.remotePort !== undefined && { remotePort: request.socket.remotePort }),
})
