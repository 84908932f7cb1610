import type { WebSocket } from '@fastify/websocket'

/** The server disconnects a client that has not answered a ping after this time. */
const pingIntervalMs = 15_000

/** Sends pings to a client, and disconnects a client that no longer answers. */
export class SocketKeepalive {
  readonly #socket: WebSocket
  readonly #timer: NodeJS.Timeout
  #isAlive = true

  constructor(socket: WebSocket) {
    this.#socket = socket
    this.#timer = setInterval(() => this.#ping(), pingIntervalMs)
    socket.on('pong', () => this.confirmAlive())
  }

  /** Records that the client is alive. This has the same effect as an answer to the last ping. */
  confirmAlive(): void {
    this.#isAlive = true
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #ping(): void {
    // While the socket is paused, a received pong may not have been read yet.
    if (this.#socket.isPaused) return
    if (this.#isAlive) {
      this.#isAlive = false
      this.#socket.ping()
    } else {
      this.#socket.terminate()
    }
  }
}
