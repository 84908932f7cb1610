import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/** What happens to the first request: it is answered so, or it arrives and its answer is lost. */
export type Fault = { status: number; retryAfter: number } | 'answer lost'

/** A reverse proxy in front of the API whose first request goes wrong. */
export interface FaultyProxy {
  url: string
  /** Method and path of what came. */
  requests: string[]
}

export async function startFaultyProxy(t: Test, target: string, fault: Fault): Promise<FaultyProxy> {
  const requests: string[] = []
  const forward = (request: IncomingMessage, onAnswer: (answer: IncomingMessage) => void) => {
    const { method, headers, url = '/' } = request
    request.pipe(send(new URL(url, target), { method: method ?? 'GET', headers }, onAnswer))
  }
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    requests.push(`${request.method} ${request.url}`)
    if (requests.length > 1) {
      forward(request, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(response)
      })
    } else if (fault === 'answer lost') {
      forward(request, (answer) => {
        answer.resume()
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
