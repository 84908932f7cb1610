import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** The maximum number of requests that are in progress at the same time on one connection. */
export const maxRequestsInFlight = 8
/** The maximum number of requests of all connections that have been read and wait. A small one takes 1.6 kB. */
export const maxWaitingRequests = 10_000

type Exchange = [request: IncomingMessage, response: ServerResponse]

/**
 * Limits how many pipelined requests of a connection (RFC 9112, section 9.3.2) are in progress. While others wait,
 * nothing more is read from the connection, so that the client waits too. Node has no such limit: it handles everything
 * that it has read, and 64 KiB can contain thousands of requests. Call this function before the server listens, and
 * after its handler was added.
 *
 * The requests are counted when Node has parsed them, and not in the bytes before. So Node reads from the operating
 * system straight into its parser, without JavaScript in between.
 */
export function limitPipelining(server: Server): void {
  const handlers = server.listeners('request') as ((...exchange: Exchange) => void)[]
  server.removeAllListeners('request')
  const queue: Queue = {
    waiting: 0,
    handle: (...exchange) => {
      for (const handler of handlers) handler.apply(server, exchange)
    },
  }
  const gates = new WeakMap<Socket, Gate>()
  server.on('connection', (socket: Socket) => gates.set(socket, new Gate(socket, queue)))
  server.on('request', (...exchange: Exchange) => gates.get(exchange[0].socket)?.enter(exchange))
  for (const event of ['upgrade', 'connect']) {
    server.on(event, ({ socket }: IncomingMessage) => gates.get(socket)?.upgrade())
  }
}

/** What the connections of a server share. */
interface Queue {
  waiting: number
  handle(...exchange: Exchange): void
}

/** Node sets `_paused` while a client does not read its answers. Then Node resumes the socket itself. */
type NodeSocket = Socket & { readonly _paused?: boolean }

/** Starts the requests of a connection, and keeps the others waiting. */
class Gate {
  readonly #socket: NodeSocket
  readonly #queue: Queue
  #inProgress = 0
  #waiting: Exchange[] = []
  /** Whether the connection no longer carries HTTP. */
  #isUpgraded = false

  constructor(socket: Socket, queue: Queue) {
    this.#socket = socket
    this.#queue = queue
    // Node resumes a socket for several reasons, for example when the body of a request is read.
    socket.on('resume', this.#pause)
    socket.once('close', () => {
      queue.waiting -= this.#waiting.length
      this.#waiting = []
    })
  }

  enter(exchange: Exchange): void {
    if (this.#inProgress < maxRequestsInFlight && this.#waiting.length === 0) {
      this.#start(exchange)
    } else if (this.#queue.waiting >= maxWaitingRequests) {
      this.#socket.destroy()
    } else if (!this.#socket.destroyed) {
      this.#queue.waiting += 1
      this.#waiting.push(exchange)
      this.#pause()
    }
  }

  /** Keeps the socket flowing from now on, because the connection no longer carries HTTP. */
  upgrade(): void {
    this.#isUpgraded = true
  }

  #start(exchange: Exchange): void {
    this.#inProgress += 1
    exchange[1].once('close', this.#leave)
    this.#queue.handle(...exchange)
  }

  readonly #leave = (): void => {
    this.#inProgress -= 1
    const next = this.#socket.destroyed ? undefined : this.#waiting.shift()
    if (!next) return
    this.#queue.waiting -= 1
    this.#start(next)
    if (this.#waiting.length === 0 && !this.#socket._paused) this.#socket.resume()
  }

  readonly #pause = (): void => {
    if (this.#waiting.length > 0 && !this.#isUpgraded) this.#socket.pause()
  }
}
