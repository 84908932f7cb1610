import { type Server, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyHttpOptions, FastifyInstance } from 'fastify'
import { type ProblemCode, ProblemError, problems } from '../errors.ts'
import { problemMediaType, toProblem } from './problem.ts'

/** How many header fields a request may have. */
const maxHeaders = 100

/** How long a request may take to arrive whole, in milliseconds. */
const requestTimeout = 30_000

/** What a request may take, for the server of Node; by its default also 16 KiB of headers. */
export const requestLimits = {
  requestTimeout,
  // With a longer headersTimeout, its default, Node looks after that only whether the body has come.
  http: {
    headersTimeout: requestTimeout,
    connectionsCheckingInterval: 5_000,
    // RFC 9110, section 7.8: who offers another protocol, HTTP/2 for example, is served as if it had not.
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  },
  clientErrorHandler: answerClientError,
} satisfies FastifyHttpOptions<Server>

/** Refuses a request with too many header fields; Node's own limit would drop the rest, maybe its Idempotency-Key. */
export function limitHeaders(app: FastifyInstance): void {
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    if (raw.rawHeaders.length <= 2 * maxHeaders) return done()
    done(new ProblemError('headers-too-large', `The request has more than ${maxHeaders} header fields`))
  })
}

/** Answers what never became a request that Fastify could answer. */
function answerClientError(error: Error & { code: string }, socket: Socket): void {
  if (error.code !== 'ECONNRESET' && socket.writable) {
    const code = codesOfNode[error.code] ?? 'bad-request'
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

const codesOfNode: Readonly<Record<string, ProblemCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'headers-too-large',
}
