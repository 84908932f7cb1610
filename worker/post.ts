import { lookup } from 'node:dns'
import http, { type IncomingHttpHeaders } from 'node:http'
import https from 'node:https'
import { type BlockList, isIP, isIPv6, type LookupFunction } from 'node:net'
import { RequestFilteringHttpAgent, RequestFilteringHttpsAgent } from 'request-filtering-agent'

/** How long an exchange may take, from the look-up of the name to the end of the answer, in milliseconds. */
export const exchangeTimeout = 15_000

/** Bytes of an answer's body that are taken off the wire; nobody reads them. */
const longestAnswer = 16 * 1024

export interface Post {
  url: string
  headers: Record<string, string>
  body: string
  /** Addresses that may be called though they are private. */
  allow: BlockList
  signal: AbortSignal
}

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
}

/**
 * Posts to an address that somebody else chose. One that is not public is refused, whatever name or notation leads
 * there, and a redirect is an answer like any other.
 *
 * @throws Error when there is no answer
 */
export function post({ url, headers, body, allow, signal }: Post): Promise<Answer> {
  const { protocol, hostname } = new URL(url)
  return new Promise((resolve, reject) => {
    const request = (protocol === 'https:' ? https : http).request(url, {
      method: 'POST',
      headers: { ...headers, 'content-length': Buffer.byteLength(body) },
      signal: AbortSignal.any([signal, AbortSignal.timeout(exchangeTimeout)]),
      ...filterAddresses(protocol, hostname.replace(/^\[|\]$/g, ''), allow),
    })
    request.on('error', reject)
    request.on('close', () => reject(new Error('The endpoint closed the connection')))
    request.on('response', (response) => {
      // The status says it all. How the rest ends changes nothing, and whoever waited for it might be stopped meanwhile.
      resolve({ status: response.statusCode as number, headers: response.headers })
      let length = 0
      response.on('data', (chunk: Buffer) => {
        length += chunk.length
        if (length > longestAnswer) response.destroy()
      })
      response.on('error', () => {})
    })
    request.end(body)
  })
}

/**
 * An agent of its own for each request: a socket that was opened for one must not serve another. What `allow` covers is
 * handed to it address by address; given the networks, it would warn of each that is of the other family.
 */
function filterAddresses(protocol: string, host: string, allow: BlockList) {
  const allowIPAddressList: string[] = []
  const admit = (address: string) => {
    if (allow.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')) allowIPAddressList.push(address)
  }
  if (isIP(host)) admit(host)
  const lookupAndAdmit: LookupFunction = (hostname, options, done) =>
    lookup(hostname, options, (error, found, family) => {
      if (typeof found === 'string') admit(found)
      else for (const { address } of found ?? []) admit(address)
      done(error, found, family)
    })
  const Agent = protocol === 'https:' ? RequestFilteringHttpsAgent : RequestFilteringHttpAgent
  return { agent: new Agent({ keepAlive: false, allowIPAddressList }), lookup: lookupAndAdmit }
}
