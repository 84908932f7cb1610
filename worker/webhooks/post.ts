import { lookup } from 'node:dns'
import http, { type IncomingHttpHeaders } from 'node:http'
import https from 'node:https'
import { type BlockList, isIP, isIPv6, type LookupFunction } from 'node:net'
import { RequestFilteringHttpAgent, RequestFilteringHttpsAgent } from 'request-filtering-agent'

/** How long a request may take, from the DNS lookup to the end of the response. */
export const postTimeoutMs = 15_000

/** The body of the response is not used. After this many bytes of the body, the connection is closed. */
const maxResponseBytes = 16 * 1024

export interface PostRequest {
  url: string
  headers: Record<string, string>
  body: string
  /** Private addresses that the request may go to. */
  allow: BlockList
  signal: AbortSignal
}

export interface PostResponse {
  status: number
  headers: IncomingHttpHeaders
}

/**
 * Posts to a URL that a client has registered. Before it opens a connection, it refuses an address that is neither
 * public nor in `allow`. It checks the resolved address, so the host name and the notation do not matter. It does not
 * follow redirects.
 *
 * @throws Error when the address is refused or there is no response
 */
export function post({ url, headers, body, allow, signal }: PostRequest): Promise<PostResponse> {
  const { protocol, hostname } = new URL(url)
  return new Promise((resolve, reject) => {
    const request = (protocol === 'https:' ? https : http).request(url, {
      method: 'POST',
      headers: { ...headers, 'content-length': Buffer.byteLength(body) },
      signal: AbortSignal.any([signal, AbortSignal.timeout(postTimeoutMs)]),
      ...filterAddresses(protocol, hostname.replace(/^\[|\]$/g, ''), allow),
    })
    request.on('error', reject)
    request.on('close', () => reject(new Error('The endpoint closed the connection')))
    request.on('response', (response) => {
      // Does not wait for the body, because only the status matters. If the worker stopped during the wait, the status
      // would be lost.
      resolve({ status: response.statusCode as number, headers: response.headers })
      let length = 0
      response.on('data', (chunk: Buffer) => {
        length += chunk.length
        if (length > maxResponseBytes) response.destroy()
      })
      response.on('error', () => {})
    })
    request.end(body)
  })
}

/**
 * Makes the request options that refuse private addresses. Each request gets its own agent, so that a socket that was
 * allowed for one endpoint is never used for another endpoint. The agent gets single addresses instead of networks,
 * because it prints a warning when it compares an IPv4 address with an IPv6 network, or the reverse.
 */
function filterAddresses(protocol: string, host: string, allow: BlockList) {
  const allowIPAddressList: string[] = []
  const allowIfListed = (address: string) => {
    if (allow.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')) allowIPAddressList.push(address)
  }
  if (isIP(host)) allowIfListed(host)
  const filteringLookup: LookupFunction = (hostname, options, done) =>
    lookup(hostname, options, (error, found, family) => {
      if (typeof found === 'string') allowIfListed(found)
      else for (const { address } of found ?? []) allowIfListed(address)
      done(error, found, family)
    })
  const Agent = protocol === 'https:' ? RequestFilteringHttpsAgent : RequestFilteringHttpAgent
  return { agent: new Agent({ keepAlive: false, allowIPAddressList }), lookup: filteringLookup }
}
