import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/** What happens to the first request: the proxy answers it with this status, or the response of the API is lost. */
export type Fault = { status: number; retryAfter: number } | 'response lost'

/** A reverse proxy in front of the API. Its first request has a fault. */
export interface FaultyProxy {
  url: string
  /** The methods and paths of the requests so far. */
  requests: string[]
}

export async function startFaultyProxy(t: Test, target: string, fault: Fault): Promise<FaultyProxy> {
  const requests: string[] = []
  const forward = (request: IncomingMessage, onResponse: (apiResponse: IncomingMessage) => void) => {
    const { method, headers, url = '/' } = request
    request.pipe(send(new URL(url, target), { method: method ?? 'GET', headers }, onResponse))
  }
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    requests.push(`${request.method} ${request.url}`)
    if (requests.length > 1) {
      forward(request, (apiResponse) => {
        response.writeHead(apiResponse.statusCode ?? 500, apiResponse.headers)
        apiResponse.pipe(response)
      })
    } else if (fault === 'response lost') {
      forward(request, (apiResponse) => {
        apiResponse.resume()
        response.destroy()
      })
    } else {
      request.resume()
      response.writeHead(fault.status, { 'retry-after': String(fault.retryAfter) }).end()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests }
}
