import type { WebSocket, WebsocketPluginOptions } from '@fastify/websocket'
import type { FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import type { Service } from '../service.ts'
import { closeCodes } from './close-codes.ts'
import { JobSocket } from './job-socket.ts'
import { handleMessagesInOrder } from './socket-messages.ts'

/** Each text frame contains one event in JSON (CloudEvents WebSocket protocol binding, section 3.1). */
export const subprotocol = 'cloudevents.json'

/** A client must answer our close frame within this time. */
const closeFrameTimeoutMs = 1_000

/** The options of @fastify/websocket. */
export const socketOptions: WebsocketPluginOptions = {
  options: {
    maxPayload: 64 * 1024,
    handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
  },
  // The plugin must not close the connections, because connectSocket closes them.
  preClose: (done) => done(),
}

/**
 * Creates a `preValidation` hook that refuses WebSockets from pages of another origin. Browsers allow a page to open a
 * WebSocket to any origin, and they send the user's cookies with the request.
 *
 * @throws ProblemError foreign-origin
 */
export function refuseForeignOrigin(service: Service) {
  return async (request: FastifyRequest): Promise<void> => {
    const { origin } = request.headers
    if (!request.ws || origin === undefined) return
    if (URL.parse(origin)?.host === request.host || origin === URL.parse(service.siteOf(request).url)?.origin) return
    throw new ProblemError('foreign-origin')
  }
}

/** Serves a WebSocket until the client or the process closes it. */
export function connectSocket(service: Service, socket: WebSocket, request: FastifyRequest): void {
  const { draining } = service
  const jobSocket = new JobSocket(service, socket, request)
  const closeForReconnect = () => {
    socket.close(closeCodes.goingAway, 'Connect again')
    setTimeout(() => socket.terminate(), closeFrameTimeoutMs)
  }
  handleMessagesInOrder(
    socket,
    (text) => jobSocket.receive(text),
    (error) => jobSocket.fail(error),
  )
  // Ignores errors, because a 'close' event follows every error.
  socket.on('error', () => {})
  socket.once('close', () => {
    jobSocket.stop()
    draining.removeEventListener('abort', closeForReconnect)
  })
  draining.addEventListener('abort', closeForReconnect)
}
