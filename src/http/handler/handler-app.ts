import type { IncomingMessage, ServerResponse } from 'node:http'
import { finished } from 'node:stream/promises'
import Fastify, { type FastifyInstance, LogController } from 'fastify'
import type { Logger } from 'pino'
import { createLog } from '../../primitives/log.ts'
import { settledWithin } from '../../primitives/timeout.ts'
import { accepted } from '../accepted.ts'
import type { AcceptedOptions } from '../options.ts'
import { checkRequestHead, requestLimits } from '../protocol/limits.ts'
import { handleError, handleNotFound } from '../protocol/problem.ts'
import { mountOf, problemPathsOf } from '../route-paths.ts'

/** The options of `createHandler`: those of the plugin, and how it works without a server of its own. */
export interface HandlerOptions extends AcceptedOptions {
  /**
   * Returns the address of the client of a request, which limits failed authentications, for example from a header that
   * your proxy sets. Until the first API key exists, a loopback address may call without a key. Not called by `node`,
   * which knows the address. Default: unknown.
   */
  clientAddress?: (request: Request) => string | undefined
  /** Default: pino to stdout. */
  log?: Logger
}

export interface HandlerApp {
  app: FastifyInstance
  answer(request: IncomingMessage, response: ServerResponse, next: (() => void) | undefined): void
}

/** The plugin may take this long to connect to a slow Postgres. */
const maxStartMs = 60_000
/** How long a closing handler waits for requests in progress. */
const closeTimeoutMs = 10_000

/** Opens a Fastify app with the plugin. It never listens: requests are passed to it. */
export async function openHandlerApp({ clientAddress: _, log, ...options }: HandlerOptions): Promise<HandlerApp> {
  const app = Fastify({
    ...requestLimits,
    pluginTimeout: maxStartMs,
    // A closing handler still answers the requests that it got before.
    return503OnClosing: false,
    frameworkErrors: handleError,
    loggerInstance: log ?? createLog(),
    // Frameworks log their requests themselves.
    logController: new LogController({ disableRequestLogging: true }),
  }) as unknown as FastifyInstance
  app.decorate('commitNotifies', true)
  app.decorate('problemPaths', problemPathsOf(mountOf(options.prefix ?? '', { ...options, prefix: '' })))
  checkRequestHead(app)
  app.setNotFoundHandler(handleNotFound)
  const nexts = new WeakMap<IncomingMessage, () => void>()
  const open = new Set<ServerResponse>()
  app.server.on('request', (_request: IncomingMessage, response: ServerResponse) => track(open, response))
  try {
    await app.register(accepted, options)
    // Runs after the hook of the plugin, which ends long polls and streams.
    app.addHook('preClose', async () => {
      await settledWithin(Promise.allSettled([...open].map((response) => finished(response))), closeTimeoutMs)
    })
    // Runs after the hook that answers 405, and before the body is read.
    app.addHook('onRequest', (request, reply, done) => {
      const next = request.is404 ? nexts.get(request.raw) : undefined
      if (!next) return done()
      reply.hijack()
      next()
    })
    await app.ready()
  } catch (error) {
    await app.close()
    throw error
  }
  return {
    app,
    answer(request, response, next) {
      if (request.readableDidRead && hasBody(request)) throw new TypeError(bodyWasRead)
      track(open, response)
      // Express removes the path at which a middleware is mounted.
      const { url = '', originalUrl = url } = request as IncomingMessage & { originalUrl?: string }
      request.url = originalUrl
      if (next) {
        nexts.set(request, () => {
          open.delete(response)
          request.url = url
          next()
        })
      }
      app.routing(request, response)
    },
  }
}

const bodyWasRead =
  'The body of the request was already read: mount the handler of accepted before body parsers such as express.json()'

const hasBody = ({ headers }: IncomingMessage) =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

function track(open: Set<ServerResponse>, response: ServerResponse): void {
  open.add(response)
  response.once('close', () => open.delete(response))
}
