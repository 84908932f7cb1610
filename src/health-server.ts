import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isBearerToken } from './primitives/bearer-token.ts'
import { metricsMediaType } from './primitives/metrics-registry.ts'
import { isLoopbackAddress } from './primitives/networks.ts'
import { problems } from './problems.ts'

/**
 * The state of a worker. A worker claims jobs only while its state is `ready`. With `--processes`, `unresponsive` means
 * that no process answers.
 */
export type Health = 'starting' | 'ready' | 'draining' | 'database-unreachable' | 'database-read-only' | 'unresponsive'

/** What the health server reads from a worker. */
export interface Monitored {
  /**
   * Returns `database-unreachable` when Postgres has not answered for 5 seconds, and `database-read-only` when it accepts
   * no writes.
   */
  health(): Health | Promise<Health>
  /** Returns the metrics in Prometheus' text format. */
  metrics(): Promise<string>
}

export interface HealthServer {
  port: number
  close(): Promise<void>
}

/**
 * Serves the health and metrics of a worker over HTTP:
 * - `GET /health/live` answers 200 while the process responds.
 * - `GET /health/ready` answers 200 while the worker claims jobs and Postgres accepts writes, else 503. The member
 *   `status` of the body is the {@link Health}.
 * - `GET /metrics` answers with the metrics in Prometheus' text format.
 *
 * The metrics are for requests of this machine or, if there is a token, for requests with it.
 *
 * @param port 0 chooses a free port
 * @param worker returns the worker, or undefined while it is starting
 * @param options.metricsToken the token that Prometheus sends as `Authorization: Bearer`
 * @throws Error EADDRINUSE when the port is in use
 */
export async function serveHealth(
  host: string,
  port: number,
  worker: () => Monitored | undefined,
  { metricsToken }: { metricsToken?: string | undefined } = {},
): Promise<HealthServer> {
  const server = createServer((request, response) => {
    route(request, response, worker(), metricsToken).catch((error) => response.destroy(error))
  })
  await listening(server, host, port)
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function route(
  request: IncomingMessage,
  response: ServerResponse,
  worker: Monitored | undefined,
  metricsToken: string | undefined,
): Promise<void> {
  const { method, url = '' } = request
  const path = url.split('?', 1)[0] as string
  if (!['/health/live', '/health/ready', '/metrics'].includes(path)) {
    return answerProblem(response, 404, path, 'not-found', 'This server has /health/live, /health/ready and /metrics')
  }
  if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD')
    return answerProblem(response, 405, path, 'method-not-allowed', `${path} supports GET and HEAD`)
  }
  if (path === '/health/live') return answer(response, 200, json, JSON.stringify({ status: 'live' }))
  if (path === '/health/ready') {
    const status = (await worker?.health()) ?? 'starting'
    return answer(response, status === 'ready' ? 200 : 503, json, JSON.stringify({ status }))
  }
  if (!mayReadMetrics(request, metricsToken)) {
    response.setHeader('www-authenticate', 'Bearer')
    const message = metricsToken ? 'Send METRICS_TOKEN' : 'Set METRICS_TOKEN to read the metrics from another machine'
    return answerProblem(response, 401, path, 'unauthenticated', message)
  }
  if (worker) return answer(response, 200, metricsMediaType, await worker.metrics())
  answerProblem(response, 503, path, 'starting', 'The worker is starting and has no metrics yet. Try again.')
}

const mayReadMetrics = ({ headers, socket }: IncomingMessage, token: string | undefined): boolean =>
  token === undefined ? isLoopbackAddress(socket.remoteAddress) : isBearerToken(headers.authorization, token)

const json = 'application/json; charset=utf-8'

function answer(response: ServerResponse, status: number, mediaType: string, body: string): void {
  response.writeHead(status, {
    'content-type': mediaType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
  })
  // Node leaves the body out of a response to HEAD.
  response.end(body)
}

/**
 * Sends problem details (RFC 9457) as the API does. The type is about:blank, because only the API serves the pages that
 * describe problem types.
 */
function answerProblem(response: ServerResponse, status: number, path: string, code: string, message: string): void {
  const title = code in problems ? problems[code as keyof typeof problems].title : 'The worker is starting'
  const problem = { type: 'about:blank', title, detail: message, instance: path, error: { code, message } }
  answer(response, status, 'application/problem+json; charset=utf-8', JSON.stringify(problem))
}

const listening = (server: Server, host: string, port: number) =>
  new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, resolve)
  })
