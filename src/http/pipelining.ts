import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** The maximum number of requests that are in progress at the same time on one connection. */
export const maxRequestsInFlight = 8

const endOfHead = Buffer.from('\r\n\r\n')
const carriageReturn = 0x0d
const lineFeed = 0x0a

/**
 * Limits how many pipelined requests of a connection (RFC 9112, section 9.3.2) are in progress. Further requests wait
 * unread in the socket, so that the client waits too. Node has no such limit: it parses everything that it has read, and
 * 64 KiB can contain thousands of requests. Call this function before the server listens.
 */
export function limitPipelining(server: Server): void {
  const gates = new WeakMap<Socket, Gate>()
  server.on('connection', (socket: Socket) => gates.set(socket, new Gate(socket)))
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    gates.get(request.socket)?.enter(request, response)
  })
  for (const event of ['upgrade', 'connect']) {
    server.on(event, ({ socket }: IncomingMessage) => gates.get(socket)?.open())
  }
}

/**
 * Stands between a socket and Node's parser. It passes the bytes on in parts that complete the header section of at most
 * one request. Between the parts, it can stop.
 */
class Gate {
  readonly #socket: Socket
  readonly #parse: (part: Buffer) => void
  #inFlight = 0
  /** The number of bytes of the current request's body that have not been passed on. Always 0 for a chunked body. */
  #bodyLeft = 0
  /** Whether the gate has paused the socket. Node pauses the socket too, and then resumes it itself. */
  #isWaiting = false
  #isOpen = false

  constructor(socket: Socket) {
    this.#socket = socket
    const [parse] = socket.listeners('data') as [(part: Buffer) => void]
    this.#parse = parse
    socket.removeListener('data', parse)
    socket.on('data', this.#pass)
  }

  enter({ headers }: IncomingMessage, response: ServerResponse): void {
    this.#inFlight += 1
    this.#bodyLeft = Number(headers['content-length'] ?? 0)
    response.once('close', () => {
      this.#inFlight -= 1
      if (!this.#isWaiting) return
      this.#isWaiting = false
      this.#socket.resume()
    })
  }

  /** Passes nothing more to the parser, because the connection no longer carries HTTP. */
  open(): void {
    this.#isOpen = true
    this.#socket.removeListener('data', this.#pass)
  }

  readonly #pass = (chunk: Buffer): void => {
    let position = 0
    while (position < chunk.length && this.#mayPass()) {
      const { end, bodyStart } = this.#nextPart(chunk, position)
      this.#bodyLeft -= Math.min(this.#bodyLeft, end - position)
      // During this call, `enter` sets #bodyLeft if the part completes a header section.
      this.#parse(position === 0 && end === chunk.length ? chunk : chunk.subarray(position, end))
      this.#bodyLeft -= Math.min(this.#bodyLeft, end - bodyStart)
      position = end
    }
    if (position < chunk.length && !this.#socket.destroyed) this.#socket.unshift(chunk.subarray(position))
  }

  #mayPass(): boolean {
    if (this.#isOpen || this.#socket.destroyed || this.#socket.isPaused()) return false
    if (this.#inFlight < maxRequestsInFlight || this.#bodyLeft > 0) return true
    this.#isWaiting = true
    this.#socket.pause()
    return false
  }

  /** @returns where the next part ends, and where a body begins that is in the part */
  #nextPart(chunk: Buffer, position: number): { end: number; bodyStart: number } {
    const toEnd = (end: number) => ({ end, bodyStart: end })
    if (this.#bodyLeft > 0) return toEnd(Math.min(position + this.#bodyLeft, chunk.length))
    // The end of a header section may be split over two chunks.
    const byte = chunk[position]
    if (position < endOfHead.length - 1 && (byte === carriageReturn || byte === lineFeed)) return toEnd(position + 1)
    const headEnd = chunk.indexOf(endOfHead, position)
    if (headEnd < 0) return toEnd(chunk.length)
    const bodyStart = headEnd + endOfHead.length
    // Most chunks contain one request. Parsing it in one part is faster.
    const isLast = chunk.indexOf(endOfHead, bodyStart) < 0
    return isLast ? { end: chunk.length, bodyStart } : toEnd(bodyStart)
  }
}
