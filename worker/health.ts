import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a worker says of itself. */
export type Health = 'starting' | 'ready' | 'draining'

export interface HealthServer {
  port: number
  close(): Promise<void>
}

/**
 * Serves `GET /health/live` and `GET /health/ready` on a port of its own: 200 while it claims jobs, else 503.
 *
 * @param port 0 takes a free one
 * @throws Error EADDRINUSE
 */
export async function serveHealth(host: string, port: number, health: () => Health): Promise<HealthServer> {
  const server = createServer((request, response) => {
    const answer = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
      response.end(JSON.stringify(body))
    }
    if (request.url === '/health/live') return answer(200, { status: 'live' })
    if (request.url === '/health/ready') return answer(health() === 'ready' ? 200 : 503, { status: health() })
    answer(404, { error: { code: 'not-found', message: 'Here are /health/live and /health/ready' } })
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

const listening = (server: Server, host: string, port: number) =>
  new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, resolve)
  })
