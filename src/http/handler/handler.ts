import '../../primitives/require-node.ts'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { collectOperations } from '../../collect-operations.ts'
import type { Accepted } from '../../connect/accepted.ts'
import { mountOf } from '../route-paths.ts'
import { dispatch } from './dispatch.ts'
import { type HandlerOptions, openHandlerApp } from './handler-app.ts'

export type { HandlerOptions } from './handler-app.ts'

/** Answers requests for the routes of the operations and of their jobs. */
export interface Handler {
  /** Answers a request of the Fetch API, for example in Hono or in a route handler of Next.js. */
  (request: Request): Promise<Response>
  /**
   * Answers a request of `node:http`, for example as a middleware of Express or NestJS. Must get the request before a
   * body parser.
   *
   * @param next called for a request that no route of the handler matches. Default: the client gets 404.
   */
  node(request: IncomingMessage, response: ServerResponse, next?: (error?: unknown) => void): void
  /** Connects to the database, unless that was done, and returns what enqueues and controls jobs from code. */
  ready(): Promise<Accepted>
  /** Ends event streams, waits for other requests in progress, and closes the connections to the database. */
  close(): Promise<void>
}

/**
 * Creates a handler that serves the routes of the plugin in any framework. It connects to the database at the first
 * request, or with `ready`. If that fails, the next request tries again. Run `accepted migrate` first.
 *
 * @throws TypeError if the operations, `prefix`, `publicUrl` or `routes` are invalid
 */
export function createHandler(options: HandlerOptions): Handler {
  collectOperations(options.operations)
  // The plugin checks these too, but only at the first request, which is late for a mistake.
  mountOf(options.prefix ?? '', { ...options, prefix: '' })
  let opening: ReturnType<typeof openHandlerApp> | undefined
  let closing: Promise<void> | undefined
  const open = () => {
    if (closing) throw new Error('The handler of accepted is closed')
    opening ??= openHandlerApp(options).catch((error) => {
      opening = undefined
      throw error
    })
    return opening
  }
  const handle = async (request: Request) => {
    const { app } = await open()
    return dispatch(app.server, request, options.clientAddress?.(request))
  }
  return Object.assign(handle, {
    node: (async (request, response, next) => {
      try {
        const { answer } = await open()
        answer(request, response, next)
      } catch (error) {
        if (next) next(error)
        else response.destroy(error as Error)
      }
    }) as Handler['node'],
    ready: async () => (await open()).app.accepted,
    close: () => {
      closing ??= (async () => (await opening?.catch(() => undefined))?.app.close())()
      return closing
    },
  })
}
