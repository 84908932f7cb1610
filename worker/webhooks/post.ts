import { lookup as dnsLookup } from 'node:dns'
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import https from 'node:https'
import { type BlockList, isIP, type LookupFunction } from 'node:net'
import { includesAddress, isPublicAddress } from '../../src/primitives/networks.ts'

/** How long a request may take, from the DNS lookup to the end of the response. */
export const postTimeoutMs = 15_000

/** How much of the body of the response is kept. After that, the connection is closed. */
export const maxAnswerBytes = 1024

/** How long to wait for these bytes. Only the status decides whether the delivery has succeeded. */
const answerTimeoutMs = 1_000

export interface PostRequest {
  url: string
  headers: Record<string, string>
  body: string
  /** Private addresses that the request may go to. */
  allow: BlockList
  signal: AbortSignal
  /** Resolves the host name. Default: `dns.lookup`, which asks the operating system. */
  lookup?: LookupFunction
}

export interface PostResponse {
  status: number
  headers: IncomingHttpHeaders
  /** The beginning of the body. */
  body: Buffer
}

/**
 * Posts to a URL that a client has registered. Before it opens a connection, it refuses an address that is neither
 * public nor in `allow`. It checks the resolved address, so the host name and the notation do not matter. It does not
 * follow redirects.
 *
 * @throws AddressRefused
 * @throws Error when there is no response
 */
export function post({ url, headers, body, allow, signal, lookup = dnsLookup }: PostRequest): Promise<PostResponse> {
  const { protocol, hostname } = new URL(url)
  return new Promise((resolve, reject) => {
    const request = (protocol === 'https:' ? https : http).request(url, {
      method: 'POST',
      headers: { ...headers, 'content-length': Buffer.byteLength(body) },
      signal: AbortSignal.any([signal, AbortSignal.timeout(postTimeoutMs)]),
      ...filterAddresses(protocol, hostname.replace(/^\[|\]$/g, ''), allow, lookup),
    })
    request.on('error', reject)
    request.on('close', () => reject(new Error('The endpoint closed the connection')))
    // From now on, the end of the connection is no error.
    request.on('response', (response) => resolve(readAnswer(response)))
    request.end(body)
  })
}

/** Never rejects: once there is a status, the delivery has succeeded or failed. */
function readAnswer(response: IncomingMessage): Promise<PostResponse> {
  const chunks: Buffer[] = []
  let length = 0
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      response.destroy()
      const body = Buffer.concat(chunks).subarray(0, maxAnswerBytes)
      resolve({ status: response.statusCode as number, headers: response.headers, body })
    }
    const timer = setTimeout(end, answerTimeoutMs)
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
      if (length >= maxAnswerBytes) end()
    })
    response.on('close', end)
    response.on('error', end)
  })
}

/** Thrown when an endpoint has an address that is neither public nor allowed. */
export class AddressRefused extends Error {
  override name = 'AddressRefused'

  constructor() {
    super('The endpoint has a private address that WEBHOOK_ALLOW does not contain')
  }
}

/**
 * Makes the request options that refuse private addresses. Each request gets its own agent, so that a socket that was
 * allowed for one endpoint is never used for another endpoint.
 */
function filterAddresses(protocol: string, host: string, allow: BlockList, lookup: LookupFunction) {
  const isAllowed = (address: string) => isPublicAddress(address) || includesAddress(allow, address)
  // Node does not look up a host that is an IP address.
  if (isIP(host) && !isAllowed(host)) throw new AddressRefused()
  const filteringLookup: LookupFunction = (hostname, options, done) =>
    // With a trailing dot, some systems do not find the names in their hosts file, such as localhost.
    lookup(hostname.replace(/\.$/, ''), options, (error, found, family) => {
      const addresses = typeof found === 'string' ? [found] : (found ?? []).map(({ address }) => address)
      done(error ?? (addresses.every(isAllowed) ? null : new AddressRefused()), found, family)
    })
  const { Agent } = protocol === 'https:' ? https : http
  return { agent: new Agent({ keepAlive: false }), lookup: filteringLookup }
}
