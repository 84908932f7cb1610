import { randomBytes } from 'node:crypto'
import { Agent, request } from 'node:http'

const requestTimeoutMs = 10_000
const maxSockets = 256

const agent = new Agent({ keepAlive: true, maxSockets })
const run = randomBytes(6).toString('hex')
let count = 0

/**
 * POSTs a note with a new idempotency key.
 *
 * @returns the response body
 * @throws Error unless the response is 202
 */
export function post(url: string): Promise<string> {
  const body = '{"text":"Buy milk, bread and some other things"}'
  const headers = {
    'content-type': 'application/json',
    'content-length': body.length,
    'idempotency-key': `${run}-${++count}`,
  }
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'POST', agent, headers, timeout: requestTimeoutMs }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => {
        text += part
      })
      response.on('error', reject)
      response.on('end', () => {
        if (response.statusCode === 202) resolve(text)
        else reject(new Error(`POST ${url} returned ${response.statusCode}: ${text}`))
      })
    })
    sent.on('error', reject)
    sent.on('timeout', () => sent.destroy(new Error(`POST ${url} got no response within ${requestTimeoutMs / 1000} s`)))
    sent.end(body)
  })
}
