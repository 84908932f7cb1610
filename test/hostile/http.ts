import { connect, type Socket } from 'node:net'
import { withTimeout } from '../../src/primitives/timeout.ts'

/** A response as it was received. */
export interface RawResponse {
  status: number
  /** Names are in lower case. */
  headers: ReadonlyMap<string, string>
  /** The beginning of the body. */
  body: string
  bodyBytes: number
}

const endOfHead = '\r\n\r\n'
const maxKeptBodyBytes = 64 * 1024

/** Parses the responses on a connection, without remembering long bodies. */
class ResponseParser {
  readonly #onResponse: (response: RawResponse) => void
  readonly #isHead: () => boolean
  #unparsed = Buffer.alloc(0)
  #current: RawResponse | undefined
  #kept: Buffer[] = []
  /** The bytes that are left of the body or of a chunk. */
  #left = 0
  #isChunked = false

  /** @param isHead returns whether the next response answers a HEAD request, and so has no body */
  constructor(onResponse: (response: RawResponse) => void, isHead: () => boolean) {
    this.#onResponse = onResponse
    this.#isHead = isHead
  }

  /** The response whose head was received and whose body was not. */
  get incomplete(): RawResponse | undefined {
    return this.#current && { ...this.#current, body: Buffer.concat(this.#kept).toString() }
  }

  push(chunk: Buffer): void {
    this.#unparsed = this.#unparsed.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#unparsed, chunk])
    while (this.#step()) {}
  }

  /** @returns whether anything was parsed */
  #step(): boolean {
    if (!this.#current) return this.#parseHead()
    if (this.#left > 0) return this.#takeBody()
    if (this.#isChunked) return this.#parseChunkSize()
    this.#finish()
    return true
  }

  #parseHead(): boolean {
    const end = this.#unparsed.indexOf(endOfHead)
    if (end < 0) return false
    const [statusLine = '', ...lines] = this.#take(end + endOfHead.length)
      .toString('latin1')
      .trimEnd()
      .split('\r\n')
    const status = Number(statusLine.match(/^HTTP\/1\.1 (\d{3})( |$)/)?.[1])
    if (!status) throw new Error(`Not a response: ${JSON.stringify(statusLine.slice(0, 200))}`)
    if (status < 200 && status !== 101) return true
    const headers = new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    )
    this.#current = { status, headers, body: '', bodyBytes: 0 }
    const hasNoBody = this.#isHead() || status === 204 || status === 304 || status === 101
    this.#isChunked = !hasNoBody && headers.get('transfer-encoding') === 'chunked'
    this.#left = hasNoBody ? 0 : Number(headers.get('content-length') ?? 0)
    return true
  }

  #parseChunkSize(): boolean {
    const end = this.#unparsed.indexOf('\r\n')
    if (end < 0) return false
    const line = this.#take(end + 2).toString('latin1')
    const size = Number.parseInt(line, 16)
    // The empty line behind a chunk.
    if (Number.isNaN(size)) return true
    if (size > 0) this.#left = size
    else {
      this.#isChunked = false
      this.#take(2)
    }
    return true
  }

  #takeBody(): boolean {
    if (this.#unparsed.length === 0) return false
    const part = this.#take(Math.min(this.#left, this.#unparsed.length))
    this.#left -= part.length
    const current = this.#current as RawResponse
    if (current.bodyBytes < maxKeptBodyBytes) this.#kept.push(Buffer.from(part))
    current.bodyBytes += part.length
    return true
  }

  #take(length: number): Buffer {
    const part = this.#unparsed.subarray(0, length)
    this.#unparsed = this.#unparsed.subarray(length)
    return part
  }

  #finish(): void {
    const response = { ...(this.#current as RawResponse), body: Buffer.concat(this.#kept).toString() }
    this.#current = undefined
    this.#kept = []
    this.#onResponse(response)
  }
}

/** A connection to the API over which any bytes can be sent. */
export class RawConnection {
  readonly socket: Socket
  readonly #parser: ResponseParser
  readonly #heads: boolean[] = []
  readonly #received: RawResponse[] = []
  #wake = () => {}
  /** What the API sent that is not HTTP. */
  error: Error | undefined

  constructor(port: number, options: { isReading?: boolean } = {}) {
    this.#parser = new ResponseParser(
      (response) => {
        this.#received.push(response)
        this.#wake()
      },
      () => this.#heads.shift() ?? false,
    )
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.socket.on('error', () => {})
    this.socket.on('close', () => this.#wake())
    this.socket.on('data', (chunk) => {
      try {
        this.#parser.push(chunk)
      } catch (error) {
        this.error = error as Error
        this.socket.destroy()
      }
    })
    if (options.isReading === false) this.socket.pause()
  }

  /** Sends bytes. `heads` says of each request in them whether its method is HEAD. */
  send(bytes: string | Uint8Array, heads: readonly boolean[] = [false]): void {
    this.#heads.push(...heads)
    this.socket.write(bytes)
  }

  /** Waits for the next response. Resolves to undefined if the connection closes or the time is over. */
  async next(timeoutMs: number): Promise<RawResponse | undefined> {
    if (this.#received.length === 0 && !this.socket.closed) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      await withTimeout(promise, timeoutMs, () => new Error('timeout')).catch(() => {})
    }
    return this.#received.shift()
  }

  /** The response whose body has not ended, for example a stream. */
  get incomplete(): RawResponse | undefined {
    return this.#parser.incomplete
  }

  close(): void {
    this.socket.destroy()
  }
}

/** Makes a well-formed request. */
export function request(
  method: string,
  path: string,
  { headers = {}, body }: { headers?: Record<string, string>; body?: unknown } = {},
): string {
  const text = body === undefined ? '' : JSON.stringify(body)
  const fields = {
    Host: 'localhost',
    ...(body !== undefined && { 'Content-Type': 'application/json', 'Content-Length': `${Buffer.byteLength(text)}` }),
    ...headers,
  }
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${text}`
}
