import Fastify, { type FastifyInstance } from 'fastify'
import { type Config, databaseOptions, type Settings } from '../config.ts'
import { logStream } from '../log.ts'
import { serializeError } from '../redact.ts'
import { allowMethods } from './allow.ts'
import { limitHeaders, requestLimits } from './limits.ts'
import { accepted, useOurConventions } from './plugin.ts'
import { handleError, handleNotFound } from './problem.ts'
import { closeUnusedConnections } from './unused-connections.ts'

/** Makes the API of a configuration: our routes, and the app's own under the same conventions and authentication. */
export async function createServer(config: Config, settings: Settings, databaseUrl: string): Promise<FastifyInstance> {
  const app = Fastify({
    ...requestLimits,
    // Who comes while we stop is served, or told to come back, as long as the connection is there.
    return503OnClosing: false,
    // What is wrong before there is a route, for example a path that cannot be decoded.
    frameworkErrors: handleError,
    logger: { level: settings.LOG_LEVEL, serializers: { err: (error) => serializeError(error) }, stream: logStream() },
  })
  limitHeaders(app)
  closeUnusedConnections(app)
  allowMethods(app, () => true)
  useOurConventions(app)
  app.setNotFoundHandler(handleNotFound)
  await app.register(accepted, {
    operations: config.operations,
    database: databaseOptions(settings, databaseUrl),
    ...(config.authenticate && { authenticate: config.authenticate }),
    ...(settings.RATE_LIMIT && { rateLimit: { requests: settings.RATE_LIMIT, seconds: 60 } }),
    ...(settings.PUBLIC_URL && { publicUrl: settings.PUBLIC_URL }),
  })
  if (config.routes) {
    const { default: routes } = await import(config.routes)
    await app.register(async (scope) => {
      scope.addHook('onRequest', app.accepted.authenticate)
      await scope.register(routes)
    })
  }
  return app
}
