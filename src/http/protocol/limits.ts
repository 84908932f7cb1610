import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyHttpOptions, FastifyInstance } from 'fastify'
import { type ProblemCode, ProblemError, problems } from '../../errors.ts'
import { problemMediaType, toProblem } from './problem.ts'

const maxHeaderFields = 100

/** A request must arrive completely within this time. */
const requestTimeoutMs = 30_000

/** Options of Node's HTTP server. Node's default limit for the headers, 16 KiB in total, also applies. */
export const requestLimits = {
  requestTimeout: requestTimeoutMs,
  http: {
    // Node applies the longer of the two timeouts to the whole request. The default of headersTimeout is 60 s.
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: 5_000,
    // Otherwise Node would answer without problem details. checkRequestHead refuses such requests.
    requireHostHeader: false,
    // The server upgrades a connection only to WebSocket, and only for the events of all jobs. Any other offer of a
    // protocol, such as HTTP/2, is ignored, and the answer is sent over HTTP/1.1 (RFC 9110, section 7.8).
    shouldUpgradeCallback: ({ method, headers, url }) =>
      method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket' && url?.split('?', 1)[0] === '/events',
  },
  clientErrorHandler: answerClientError,
} satisfies FastifyHttpOptions<Server>

// The same pattern as in Node, which has already answered `100 Continue` if it matches.
const continuePattern = /(?:^|\W)100-continue(?:$|\W)/i

/**
 * Refuses requests whose header section is malformed. Call this function before the routes are added.
 * - With too many header fields, Node's own limit would silently drop some, for example the Idempotency-Key.
 * - HTTP/1.1 requires exactly one Host (RFC 9112, section 3.2). Of several, a proxy may have used another one.
 */
export function checkRequestHead(app: FastifyInstance): void {
  app.addHook('onRequest', ({ raw }, _reply, done) => done(findHeadProblem(raw)))
  app.server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    app.server.emit('request', request, response)
  })
  app.server.on('connect', (_request: IncomingMessage, socket: Socket) => {
    socket.on('error', () => {})
    const allow = 'Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'
    socket.end(rawProblem('method-not-allowed', [allow]), () => socket.destroy())
  })
}

function findHeadProblem({ rawHeaders, headers, httpVersion }: IncomingMessage): ProblemError | undefined {
  if (rawHeaders.length > 2 * maxHeaderFields) {
    return new ProblemError('headers-too-large', `The request has more than ${maxHeaderFields} header fields`)
  }
  const isHost = (name: string, index: number) => index % 2 === 0 && name.length === 4 && /^host$/i.test(name)
  const hosts = rawHeaders.filter(isHost).length
  if (hosts > 1) return new ProblemError('bad-request', 'The request has more than one Host header')
  if (httpVersion !== '1.1') return undefined
  if (hosts === 0) return new ProblemError('bad-request', 'The request has no Host header')
  const isMet = headers.expect === undefined || continuePattern.test(headers.expect)
  return isMet ? undefined : new ProblemError('expectation-failed')
}

/** Answers a request that Node rejects before Fastify sees it. */
function answerClientError(error: Error & { code: string }, socket: Socket): void {
  if (error.code !== 'ECONNRESET' && socket.writable) {
    socket.write(rawProblem(nodeErrorCodes[error.code] ?? 'bad-request'))
  }
  socket.destroy()
}

const nodeErrorCodes: Readonly<Record<string, ProblemCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'headers-too-large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'body-too-large',
}

/** Makes a response for a connection that Node no longer handles. */
function rawProblem(code: ProblemCode, headers: readonly string[] = []): string {
  const { status, title } = problems[code]
  const body = JSON.stringify(toProblem({ code, title, message: title }))
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Content-Type: ${problemMediaType}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'Connection: close',
    ...headers,
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}
