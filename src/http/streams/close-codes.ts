import type { WebSocket } from '@fastify/websocket'

/** The status codes with which the server closes a WebSocket (RFC 6455, section 7.4.1). */
export const closeCodes = {
  goingAway: 1001,
  unsupportedData: 1003,
  policyViolation: 1008,
  internalError: 1011,
} as const

/** A client must answer our close frame within this time. */
const closeFrameTimeoutMs = 1_000

/** Closes a WebSocket. Terminates the connection if the client does not answer, for example because it only sends. */
export function closeSocket(socket: WebSocket, code: number, reason: string): void {
  socket.close(code, reason)
  // A paused socket would not receive the answer.
  socket.resume()
  const timer = setTimeout(() => socket.terminate(), closeFrameTimeoutMs)
  socket.once('close', () => clearTimeout(timer))
}
