import Fastify, { type FastifyInstance } from 'fastify'
import { type Config, databaseOptions, type Settings } from '../config.ts'
import { logStream } from '../primitives/log.ts'
import { serializeError } from '../primitives/redact.ts'
import { closeGracefully } from './graceful-close.ts'
import { accepted, useApiConventions } from './plugin.ts'
import { allowMethods } from './protocol/allow.ts'
import { limitHeaders, requestLimits } from './protocol/limits.ts'
import { handleError, handleNotFound } from './protocol/problem.ts'

/** Creates the API of a configuration: our routes, and the app's own with the same conventions and authentication. */
export async function createServer(config: Config, settings: Settings, databaseUrl: string): Promise<FastifyInstance> {
  const app = Fastify({
    ...requestLimits,
    // While the server closes, requests on open connections are still answered.
    return503OnClosing: false,
    // Handles errors before a route is found, for example a path that cannot be decoded.
    frameworkErrors: handleError,
    logger: { level: settings.LOG_LEVEL, serializers: { err: (error) => serializeError(error) }, stream: logStream() },
  })
  limitHeaders(app)
  closeGracefully(app)
  allowMethods(app, () => true)
  useApiConventions(app)
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
