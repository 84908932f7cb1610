import { type Server, STATUS_CODES } from 'node:http'
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
    // The server upgrades a connection only to WebSocket, and only for the events of all jobs. Any other offer of a
    // protocol, such as HTTP/2, is ignored, and the answer is sent over HTTP/1.1 (RFC 9110, section 7.8).
    shouldUpgradeCallback: ({ method, headers, url }) =>
      method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket' && url?.split('?', 1)[0] === '/events',
  },
  clientErrorHandler: answerClientError,
} satisfies FastifyHttpOptions<Server>

/**
 * Refuses requests with too many header fields. Node's own limit would silently drop the extra fields, and the
 * Idempotency-Key might be one of them.
 */
export function limitHeaders(app: FastifyInstance): void {
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    if (raw.rawHeaders.length <= 2 * maxHeaderFields) return done()
    done(new ProblemError('headers-too-large', `The request has more than ${maxHeaderFields} header fields`))
  })
}

/** Answers a request that Node rejects before Fastify sees it. */
function answerClientError(error: Error & { code: string }, socket: Socket): void {
  if (error.code !== 'ECONNRESET' && socket.writable) {
    const code = nodeErrorCodes[error.code] ?? 'bad-request'
    const { status, title } = problems[code]
    const body = JSON.stringify(toProblem({ code, title, message: title }))
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      `Content-Type: ${problemMediaType}`,
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Connection: close',
    ]
    socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
  }
  socket.destroy()
}

const nodeErrorCodes: Readonly<Record<string, ProblemCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'headers-too-large',
}
