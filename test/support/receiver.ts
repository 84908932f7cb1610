import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { HTTP } from 'cloudevents'
import { Webhook } from 'standardwebhooks'
import type { Test } from 'tap'
import { until } from './until.ts'

export interface ReceivedRequest {
  method: string
  path: string
  headers: Record<string, string>
  body: string
  /** The client's port, which identifies the connection. */
  remotePort: number
}

export interface Answer {
  status: number
  headers?: Record<string, string>
  body?: string
}

/** A server that receives webhooks. */
export interface Receiver {
  url: string
  received: ReceivedRequest[]
  /** Counts the connections that were opened, with or without a request. */
  connections(): number
  /** Waits until `count` requests have arrived. Returns all received requests. */
  arrived(count: number): Promise<ReceivedRequest[]>
}

export interface ReceiverOptions {
  /**
   * One answer for each request. Later requests get the last answer again. `never` sends no answer, and `echo` the body of
   * the request. Default: 204.
   */
  answers?: (Answer | 'never' | 'echo')[]
  tls?: { key: string; cert: string }
}

/** Starts a receiver on 127.0.0.1. */
export async function startReceiver(
  t: Test,
  { answers = [{ status: 204 }], tls }: ReceiverOptions = {},
): Promise<Receiver> {
  const received: ReceivedRequest[] = []
  let connections = 0
  const server: Server = tls ? createTlsServer(tls) : createServer()
  server.on('request', async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const answer = answers[Math.min(received.length, answers.length - 1)] as Answer | 'never' | 'echo'
    received.push({
      method: request.method as string,
      path: request.url as string,
      headers: plain(request.headers),
      body: Buffer.concat(chunks).toString(),
      remotePort: request.socket.remotePort as number,
    })
    if (answer === 'echo') response.writeHead(200).end(Buffer.concat(chunks))
    else if (answer !== 'never') response.writeHead(answer.status, answer.headers).end(answer.body)
  })
  server.on('connection', () => {
    connections += 1
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  return {
    url: tls ? `https://localhost:${port}/hook` : `http://127.0.0.1:${port}/hook`,
    received,
    connections: () => connections,
    async arrived(count) {
      await until(() => received.length >= count)
      return received
    },
  }
}

const plain = (headers: IncomingHttpHeaders) =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))

/** Verifies a webhook with the Standard Webhooks library. Returns its event, parsed with the CloudEvents library. */
export function verify({ headers, body }: ReceivedRequest, secret: string) {
  new Webhook(secret).verify(body, headers)
  const event = HTTP.toEvent<Record<string, unknown>>({ headers, body })
  if (Array.isArray(event)) throw new Error('The request contains more than one event')
  return event
}
