import type { WebSocket, WebsocketPluginOptions } from '@fastify/websocket'
import type { FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import type { Service } from '../service.ts'
import { JobSocket } from './job-socket.ts'
import { handleMessagesInOrder } from './socket-messages.ts'

/** CloudEvents' WebSocket protocol binding, section 3.1: one event in JSON per text frame. */
export const subprotocol = 'cloudevents.json'

/** Close code 1001 (RFC 6455, section 7.4.1). */
const goingAway = 1001

/** How long a client may take to answer our close frame. */
const closeTimeoutMs = 1_000

/** The options of @fastify/websocket. */
export const socketOptions: WebsocketPluginOptions = {
  options: {
    maxPayload: 64 * 1024,
    handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
  },
  // connectSocket closes each connection itself.
  preClose: (done) => done(),
}

/**
 * Creates a `preValidation` hook that refuses WebSockets opened by pages of another origin. The browser sends the user's
 * cookies along, and does not apply the same-origin policy to WebSockets.
 *
 * @throws ProblemError foreign-origin
 */
export function refuseForeignOrigin(service: Service) {
  return async (request: FastifyRequest): Promise<void> => {
    const { origin } = request.headers
    if (!request.ws || origin === undefined) return
    if (URL.parse(origin)?.host === request.host || origin === service.originOf(request)) return
    throw new ProblemError('foreign-origin')
  }
}

/** Serves a WebSocket until the client or the process closes it. */
export function connectSocket(service: Service, socket: WebSocket, request: FastifyRequest): void {
  const { draining } = service
  const jobSocket = new JobSocket(service, socket, request)
  const closeForReconnect = () => {
    socket.close(goingAway, 'Connect again')
    setTimeout(() => socket.terminate(), closeTimeoutMs)
  }
  handleMessagesInOrder(
    socket,
    (text) => jobSocket.receive(text),
    (error) => jobSocket.fail(error),
  )
  // A 'close' event follows every error.
  socket.on('error', () => {})
  socket.once('close', () => {
    jobSocket.stop()
    draining.removeEventListener('abort', closeForReconnect)
  })
  draining.addEventListener('abort', closeForReconnect)
}
