import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyHttpOptions, FastifyInstance } from 'fastify'
import { ProblemError } from '../../errors.ts'
import { type ProblemCode, problems } from '../../problems.ts'
import { defaultRoutePaths } from '../route-paths.ts'
import { isNamed } from './headers.ts'
import { type ProblemPaths, problemMediaType, toProblem } from './problem.ts'
import { dataHeaders } from './security-headers.ts'

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
    shouldUpgradeCallback: (request) => webSocketPathOf(request) === defaultRoutePaths.events,
  },
  clientErrorHandler: answerClientError,
} satisfies FastifyHttpOptions<Server>

/** Returns the path at which a request asks for a WebSocket. Returns undefined if it does not ask for one. */
export const webSocketPathOf = ({ method, headers, url }: IncomingMessage): string | undefined =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket' ? url?.split('?', 1)[0] : undefined

/**
 * Refuses requests whose header section is malformed. Call this function before the routes are added.
 * - With too many header fields, Node's own limit would silently drop some, for example the Idempotency-Key.
 * - HTTP/1.1 requires exactly one Host (RFC 9112, section 3.2). Of several, a proxy may have used another one.
 */
export function checkRequestHead(app: FastifyInstance): void {
  app.addHook('onRequest', ({ raw }, _reply, done) => done(findHeadProblem(raw)))
  app.server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    newestResponses.set(request.socket, response)
  })
  app.server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    app.server.emit('request', request, response)
  })
  app.server.on('connect', (_request: IncomingMessage, socket: Socket) => {
    socket.on('error', () => {})
    const allow = 'Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'
    socket.end(rawProblem('method-not-allowed', [allow], undefined, app.problemPaths), () => socket.destroy())
  })
}

function findHeadProblem({ rawHeaders, headers, httpVersion }: IncomingMessage): ProblemError | undefined {
  if (rawHeaders.length > 2 * maxHeaderFields) {
    return new ProblemError('headers-too-large', `The request has more than ${maxHeaderFields} header fields`)
  }
  let hosts = 0
  for (let index = 0; index < rawHeaders.length; index += 2) if (isNamed(rawHeaders[index] as string, 'host')) hosts++
  if (hosts > 1) return new ProblemError('bad-request', 'The request has more than one Host header')
  if (httpVersion !== '1.1') return undefined
  if (hosts === 0) return new ProblemError('bad-request', 'The request has no Host header')
  if (!isListOf('100-continue', headers.expect)) return new ProblemError('expectation-failed')
  // Node ignores other codings, so that the body would be misread.
  if (isListOf('chunked', headers['transfer-encoding'])) return undefined
  return new ProblemError('bad-request', 'Send the body with no transfer coding other than chunked')
}

/** Returns whether each element of a list in a header is the given token. */
const isListOf = (token: string, header: string | undefined): boolean =>
  header === undefined || header.split(',').every((element) => ['', token].includes(element.trim().toLowerCase()))

/** The response to the newest request of a connection. It is the last that the connection sends. */
const newestResponses = new WeakMap<Socket, ServerResponse>()

/** Connections on which no further request can be read. */
const failed = new WeakSet<Socket>()

/**
 * Answers what Node could not read as a request. If it follows requests that are complete, their responses are sent
 * first: their jobs may already be stored.
 */
function answerClientError(this: FastifyInstance, error: Error & { code: string }, socket: Socket): void {
  if (failed.has(socket)) return
  failed.add(socket)
  const response = newestResponses.get(socket)
  const isAnswering = response?.req.complete === true && !response.closed
  const isStream = response?.headersSent === true && !response.writableEnded
  if (error.code === 'ECONNRESET' || !socket.writable || (response && !response.closed && isStream)) {
    socket.destroy()
    return
  }
  const problem = rawProblem(nodeErrorCodes[error.code] ?? 'bad-request', [], undefined, this.problemPaths)
  const send = () => (socket.writable ? socket.end(problem, () => socket.destroy()) : socket.destroy())
  if (isAnswering) response.once('close', send)
  else send()
}

const nodeErrorCodes: Readonly<Record<string, ProblemCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'headers-too-large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'body-too-large',
}

/** Makes a response for a connection that Node no longer handles. */
export function rawProblem(
  code: ProblemCode,
  headers: readonly string[] = [],
  message?: string,
  paths?: ProblemPaths,
): string {
  const { status, title } = problems[code]
  const body = JSON.stringify(toProblem({ code, title, message: message ?? title }, paths))
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Content-Type: ${problemMediaType}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    ...Object.entries(dataHeaders).map(([name, value]) => `${name}: ${value}`),
    'Connection: close',
    ...headers,
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}
