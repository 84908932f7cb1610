import type { WebSocket } from '@fastify/websocket'

/** A client that has not answered a ping when the next one is due is cut off. */
const pingIntervalMs = 15_000

/** Pings a client, and cuts it off when it no longer answers. */
export class SocketKeepalive {
  readonly #socket: WebSocket
  readonly #timer: NodeJS.Timeout
  #isAlive = true

  constructor(socket: WebSocket) {
    this.#socket = socket
    this.#timer = setInterval(() => this.#ping(), pingIntervalMs)
    socket.on('pong', () => this.confirmAlive())
  }

  /** Counts as an answer to the last ping. */
  confirmAlive(): void {
    this.#isAlive = true
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #ping(): void {
    // While the socket is paused, a pong may have arrived without being read.
    if (this.#socket.isPaused) return
    if (this.#isAlive) {
      this.#isAlive = false
      this.#socket.ping()
    } else {
      this.#socket.terminate()
    }
  }
}
