import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** A request that has begun when the server is to stop may take so long to arrive whole, in milliseconds. */
const arrivesWithin = 5_000
/**
 * Who has asked before may be asking at this very moment. So a connection that is free stays for a while, and the next
 * answer on it says that it was the last. In milliseconds.
 */
const idleFor = 1_000

/**
 * Closes, when the server is to stop, what Node would wait for without end, or would close too early: at once the
 * connections on which nothing was ever asked, which browsers and pools open ahead of need, and some seconds later those
 * whose request has not arrived whole, for Node looks after its timeouts only until it stops.
 */
export function closeUnusedConnections(app: FastifyInstance): void {
  /** The request that is being answered on each connection, if there is one. */
  const requests = new Map<Socket, IncomingMessage | undefined>()
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
  app.addHook('preClose', async () => {
    for (const socket of requests.keys()) if (socket.bytesRead === 0) socket.destroy()
    const closeLate = () => {
      const late = Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
      for (const [socket, request] of requests) {
        if (!request?.complete && !app.server.emit('clientError', late, socket)) socket.destroy()
      }
    }
    setTimeout(closeLate, arrivesWithin).unref()
    const isIdle = () => [...requests].some(([socket, request]) => socket.bytesRead > 0 && !request)
    for (const until = performance.now() + idleFor; isIdle() && performance.now() < until; ) await delay(20)
  })
}
