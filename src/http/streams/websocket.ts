import type { Duplex } from 'node:stream'
import type { WebSocket, WebsocketPluginOptions } from '@fastify/websocket'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { errorCode } from '../../db/sqlstate.ts'
import { ProblemError } from '../../errors.ts'
import { problems } from '../../problems.ts'
import { rawProblem } from '../protocol/limits.ts'
import type { ProblemPaths } from '../protocol/problem.ts'
import type { Service } from '../service.ts'
import { closeCodes, closeSocket } from './close-codes.ts'
import { JobSocket } from './job-socket.ts'
import { handleMessagesInOrder } from './socket-messages.ts'

type WebSocketServer = FastifyInstance['websocketServer']

/** Each text frame contains one event in JSON (CloudEvents WebSocket protocol binding, section 3.1). */
export const subprotocol = 'cloudevents.json'

/** The options of @fastify/websocket. */
export const socketOptions: WebsocketPluginOptions = {
  options: {
    maxPayload: 64 * 1024,
    maxFragments: 256,
    // A chunk of 64 KiB contains thousands of small frames. Each gets a turn of the event loop.
    allowSynchronousEvents: false,
    handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
  },
  // `ws` has sent a close frame with the reason. What a client sends is no error of the API.
  errorHandler: (error, socket, request) => {
    const isClientError = String(errorCode(error)).startsWith('WS_ERR_')
    request.log[isClientError ? 'debug' : 'error']({ err: error }, 'WebSocket failed; closing the connection')
    closeSocket(socket, closeCodes.internalError, problems['internal-error'].title)
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
    if (service.cors.isListed(origin)) return
    if (URL.parse(origin)?.host === request.host || origin === URL.parse(service.siteOf(request).url)?.origin) return
    throw new ProblemError('foreign-origin')
  }
}

/** Answers a malformed opening handshake with problem details. `ws` would answer with plain text. */
export function refuseMalformedHandshakes(server: WebSocketServer, paths: ProblemPaths): void {
  // The versions that `ws` supports (RFC 6455, section 4.2.2).
  const headers = ['Sec-WebSocket-Version: 13, 8']
  server.on('wsClientError', (error: Error, socket: Duplex) => {
    socket.end(rawProblem('bad-request', headers, error.message, paths), () => socket.destroy())
  })
}

/** Serves a WebSocket until the client or the process closes it. */
export function connectSocket(service: Service, socket: WebSocket, request: FastifyRequest): void {
  const { draining } = service
  const jobSocket = new JobSocket(service, socket, request)
  const closeForReconnect = () => closeSocket(socket, closeCodes.goingAway, 'Connect again')
  handleMessagesInOrder(socket, {
    handle: (message) => jobSocket.receive(message),
    refuse: () => jobSocket.refuse(),
    onError: (error) => jobSocket.fail(error),
  })
  const unwatch = service.credentials.watch(request, () => {
    closeSocket(socket, closeCodes.policyViolation, 'The credential is no longer valid')
  })
  // Ignores errors, because a 'close' event follows every error.
  socket.on('error', () => {})
  socket.once('close', () => {
    unwatch()
    jobSocket.stop()
    draining.removeEventListener('abort', closeForReconnect)
  })
  draining.addEventListener('abort', closeForReconnect)
}
