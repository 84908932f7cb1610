import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { problems } from '../src/errors.ts'
import { metricsMediaType } from '../src/metrics.ts'

/** What a worker says of itself; it claims when it is `ready`. */
export type Health = 'starting' | 'ready' | 'draining' | 'database-unreachable'

/** What is served of a worker. */
export interface Monitored {
  /** `database-unreachable` when Postgres has not answered for five seconds. */
  health(): Health
  /** What it counts, in Prometheus' text format. */
  metrics(): Promise<string>
}

export interface HealthServer {
  port: number
  close(): Promise<void>
}

/**
 * Serves, on a port of its own, `GET /health/live`: 200 as long as the process answers; `GET /health/ready`: 200 while it
 * claims jobs and Postgres answers, else 503, with the {@link Health} as `status`; and `GET /metrics` for Prometheus.
 *
 * @param port 0 takes a free one
 * @param worker the worker, or undefined as long as it is starting
 * @throws Error EADDRINUSE
 */
export async function serveHealth(
  host: string,
  port: number,
  worker: () => Monitored | undefined,
): Promise<HealthServer> {
  const server = createServer((request, response) => {
    route(request, response, worker()).catch((error) => response.destroy(error))
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

async function route(request: IncomingMessage, response: ServerResponse, worker: Monitored | undefined): Promise<void> {
  const { method, url = '' } = request
  const path = url.split('?', 1)[0] as string
  if (!['/health/live', '/health/ready', '/metrics'].includes(path)) {
    return refuse(response, 404, path, 'not-found', 'Here are /health/live, /health/ready and /metrics')
  }
  if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD')
    return refuse(response, 405, path, 'method-not-allowed', `${path} is there for GET and HEAD`)
  }
  if (path === '/health/live') return answer(response, 200, json, JSON.stringify({ status: 'live' }))
  if (path === '/health/ready') {
    const status = worker?.health() ?? 'starting'
    return answer(response, status === 'ready' ? 200 : 503, json, JSON.stringify({ status }))
  }
  if (worker) return answer(response, 200, metricsMediaType, await worker.metrics())
  refuse(response, 503, path, 'starting', 'The worker is starting and has counted nothing yet; ask again')
}

const json = 'application/json; charset=utf-8'

function answer(response: ServerResponse, status: number, mediaType: string, body: string): void {
  response.writeHead(status, {
    'content-type': mediaType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  })
  // Of an answer to HEAD Node sends the header section only.
  response.end(body)
}

/** Problem details (RFC 9457), as the API's; their pages are there, and not here. */
function refuse(response: ServerResponse, status: number, path: string, code: string, message: string): void {
  const title = code in problems ? problems[code as keyof typeof problems].title : 'The worker is starting'
  const problem = { type: 'about:blank', title, detail: message, instance: path, error: { code, message } }
  answer(response, status, 'application/problem+json; charset=utf-8', JSON.stringify(problem))
}

const listening = (server: Server, host: string, port: number) =>
  new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, resolve)
  })
