import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** After the server has started to close, a request must arrive completely within this time. */
const arrivalTimeoutMs = 5_000
/** How long idle connections stay open after the server has started to close. */
const idleTimeoutMs = 1_000
const idlePollIntervalMs = 20

/**
 * Corrects three flaws in how Node closes a server:
 * - Node waits forever for connections on which no request has started. Browsers and connection pools open such
 *   connections in advance.
 * - Node waits forever for requests that never arrive completely, because a closing server checks no timeouts.
 * - Node closes idle connections immediately, although a client may be sending its next request.
 */
export function closeGracefully(app: FastifyInstance): void {
  /** The open connections. The value is the request that is being answered on the connection, if there is one. */
  const requests = new Map<Socket, IncomingMessage | undefined>()
  trackRequests(app, requests)
  app.addHook('preClose', async () => {
    for (const socket of requests.keys()) if (socket.bytesRead === 0) socket.destroy()
    setTimeout(() => closeIncomplete(app, requests), arrivalTimeoutMs).unref()
    // Waits until no connection is idle. If a client sends another request, the response has `Connection: close`.
    const hasIdle = () => [...requests].some(([socket, request]) => socket.bytesRead > 0 && !request)
    for (const until = performance.now() + idleTimeoutMs; hasIdle() && performance.now() < until; ) {
      await delay(idlePollIntervalMs)
    }
  })
}

function trackRequests(app: FastifyInstance, requests: Map<Socket, IncomingMessage | undefined>): void {
  app.server.on('connection', (socket: Socket) => {
    requests.set(socket, undefined)
    socket.once('close', () => requests.delete(socket))
  })
  app.server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request
    requests.set(socket, request)
    response.once('close', () => {
      if (requests.get(socket) === request) requests.set(socket, undefined)
    })
  })
  app.server.on('upgrade', ({ socket }) => requests.delete(socket))
}

/** Closes each connection whose request has not arrived completely. The client gets 408. */
function closeIncomplete(app: FastifyInstance, requests: ReadonlyMap<Socket, IncomingMessage | undefined>): void {
  const timeout = Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
  for (const [socket, request] of requests) {
    if (!request?.complete && !app.server.emit('clientError', timeout, socket)) socket.destroy()
  }
}
