import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'

/**
 * What the proxy does to a request:
 * - `not sent`: it closes the connection, and the API gets nothing.
 * - `answer lost`: the API answers, and the connection closes before the client gets anything.
 * - `answer cut`: the client gets the headers and half of the body. Of an event stream, it gets the first events.
 * - `held back`: the client gets nothing until the answer is complete, as from a proxy that buffers.
 * - `silent`: the client gets nothing, and the connection stays open. Of an event stream, it gets the first events.
 * - `late`: the client gets the answer later.
 * - `no waiting`: the API gets the request without its header Prefer.
 * - a status: the API gets nothing, and the client gets this answer.
 */
export type Fault =
  | 'not sent'
  | 'answer lost'
  | 'answer cut'
  | 'held back'
  | 'silent'
  | 'late'
  | 'no waiting'
  | { status: number; headers?: Record<string, string>; body?: string }

export interface FaultyProxy {
  url: string
  /** The URL of the API. */
  target: string
  /** The requests so far: the method, the path and the headers. */
  requests: { route: string; headers: IncomingMessage['headers'] }[]
  /** Chooses the fault of each request. Default: none. */
  choose: (request: IncomingMessage) => Fault | undefined
}

const latenessMs = 300

/** Starts an HTTP proxy in front of an API that a test can make faulty. */
export async function startFaultyProxy(t: Test, target: string): Promise<FaultyProxy> {
  const proxy: FaultyProxy = { url: '', target, requests: [], choose: () => undefined }
  const server = createServer((request, response) => {
    proxy.requests.push({ route: `${request.method} ${request.url}`, headers: request.headers })
    const fault = proxy.choose(request)
    if (fault === 'not sent') return request.socket.destroy()
    if (typeof fault === 'object') {
      request.resume()
      return response.writeHead(fault.status, fault.headers).end(fault.body)
    }
    forward(new URL(request.url ?? '/', proxy.target), request, response, fault)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close().closeAllConnections())
  proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return proxy
}

function forward(url: URL, request: IncomingMessage, response: ServerResponse, fault: Fault | undefined): void {
  const { prefer, ...others } = request.headers
  const headers = fault === 'no waiting' ? others : request.headers
  const forwarded = send(url, { method: request.method ?? 'GET', headers, agent: false }, async (answer) => {
    const { statusCode = 500, headers: answered } = answer
    const isStream = answered['content-type']?.startsWith('text/event-stream')
    const cut = () => response.destroy()
    answer.on('error', cut)
    if (fault === 'held back') {
      const body = await buffer(answer).catch(cut)
      if (Buffer.isBuffer(body)) response.writeHead(statusCode, answered).end(body)
    } else if (fault === 'answer lost') {
      // Of a stream, the first data is enough to know that the API has answered.
      answer.once(isStream ? 'data' : 'end', cut).resume()
    } else if (fault === 'answer cut') {
      response.writeHead(statusCode, answered)
      answer.on('data', (chunk: Buffer) => {
        if (!isStream) response.write(chunk.subarray(0, chunk.length / 2), cut)
        else response.write(chunk, chunk.includes('event:') ? cut : undefined)
      })
      answer.once('end', cut)
    } else if (fault === 'silent') {
      answer.once('data', (chunk: Buffer) => isStream && response.writeHead(statusCode, answered).write(chunk))
    } else {
      if (fault === 'late') await delay(latenessMs)
      response.writeHead(statusCode, answered)
      answer.pipe(response)
    }
  })
  forwarded.on('error', () => response.destroy())
  response.on('close', () => forwarded.destroy())
  request.pipe(forwarded)
}
