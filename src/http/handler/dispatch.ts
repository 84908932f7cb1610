import { once } from 'node:events'
import {
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
} from 'node:http'
import { type Duplex, duplexPair, Readable } from 'node:stream'

/** Header fields that are about one connection (RFC 9110, section 7.6.1), or that Node's client sets itself. */
const connectionHeaders = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade'],
  ...['expect', 'host'],
])

/** Statuses of responses without a body (Fetch Standard, null body status). */
const nullBodyStatuses = [204, 205, 304]

/**
 * Sends a request of the Fetch API to an HTTP server that need not listen, over a connection within the process. Bodies
 * are streamed in both directions, as fast as the slower side reads. Aborting the request, or canceling the response's
 * body, closes the connection.
 *
 * @param address the address of the client
 * @throws TypeError if the body was already read
 */
export async function dispatch(server: Server, request: Request, address?: string): Promise<Response> {
  if (request.bodyUsed) {
    throw new TypeError('The body of the request was already read: pass the request to the handler of accepted unread')
  }
  const { protocol, host, pathname, search } = new URL(request.url)
  // Next.js puts the host on which it listens into the URL, and not that which the client called.
  const called = request.headers.get('host') || host
  // The server takes the scheme of the links from `encrypted`, as with TLS.
  const near = connectTo(server, { remoteAddress: address, encrypted: protocol === 'https:' })
  const outgoing = httpRequest({
    ...{ createConnection: () => near, method: request.method, path: pathname + search, signal: request.signal },
    headers: { ...headersOf(request), host: called },
  })
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve)
    // After the response, errors are those of its body.
    outgoing.on('error', reject)
  })
  if (request.body) sendBody(request.body, outgoing).catch((error) => outgoing.destroy(error))
  else outgoing.end()
  return toResponse(request, await answered)
}

/**
 * Sends a body as fast as the server reads it. The server may answer before it has read everything: the rest is then not
 * read. But the body is not canceled while a read is pending: if the body was about to end, Node.js would throw an error
 * that nothing can catch (`ReadableStream is already closed`).
 */
async function sendBody(body: NonNullable<Request['body']>, outgoing: ClientRequest): Promise<void> {
  let isClosed = false
  const closed = new Promise<void>((resolve) => {
    outgoing.once('close', () => {
      isClosed = true
      resolve()
    })
  })
  const reader = body.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (isClosed) return reader.cancel()
    if (done) break
    if (!outgoing.write(value)) await Promise.race([once(outgoing, 'drain'), closed])
  }
  outgoing.end()
}

/** Opens a connection to a server. Returns the end of the client. */
function connectTo(server: Server, properties: { remoteAddress: string | undefined; encrypted: boolean }): Duplex {
  const [near, far] = duplexPair()
  // Node passes on the end of a side, but not that it was destroyed.
  near.once('close', () => far.destroy())
  far.once('close', () => far.writableFinished || near.destroy())
  far.on('error', () => {})
  server.emit('connection', Object.assign(far, properties))
  return near
}

function headersOf({ headers }: Request): OutgoingHttpHeaders {
  const named = (headers.get('connection') ?? '').split(',')
  const perConnection = new Set(named.map((name) => name.trim().toLowerCase()))
  const kept = [...headers].filter(([name]) => !connectionHeaders.has(name) && !perConnection.has(name))
  const key = headers.get('idempotency-key')
  // `Headers` joins repeated lines. As separate lines again, the server refuses them.
  const keys = key?.startsWith('"') ? undefined : key?.split(', ')
  return { ...Object.fromEntries(kept), ...(keys && { 'idempotency-key': keys }) }
}

function toResponse({ method }: Request, incoming: IncomingMessage): Response {
  const headers = new Headers()
  const { rawHeaders, statusCode: status = 500, statusMessage: statusText = '' } = incoming
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string
    if (!connectionHeaders.has(name.toLowerCase())) headers.append(name, rawHeaders[index + 1] as string)
  }
  const hasBody = method !== 'HEAD' && !nullBodyStatuses.includes(status)
  if (!hasBody) incoming.resume()
  const body = hasBody ? (Readable.toWeb(incoming) as ConstructorParameters<typeof Response>[0]) : null
  return new Response(body, { status, statusText, headers })
}
