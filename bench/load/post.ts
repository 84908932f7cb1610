import { randomBytes } from 'node:crypto'
import { Agent, request } from 'node:http'

// A connection that is free is used again.
const agent = new Agent({ keepAlive: true, maxSockets: 256 })
const run = randomBytes(6).toString('hex')
let count = 0

/**
 * POSTs a note under a key of its own.
 *
 * @returns the body of the answer
 * @throws Error unless it was accepted
 */
export function post(url: string): Promise<string> {
  const body = '{"text":"Buy milk, bread and some other things"}'
  const headers = {
    'content-type': 'application/json',
    'content-length': body.length,
    'idempotency-key': `${run}-${++count}`,
  }
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'POST', agent, headers, timeout: 10_000 }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => {
        text += part
      })
      response.on('error', reject)
      response.on('end', () => {
        if (response.statusCode === 202) resolve(text)
        else reject(new Error(`${url} answered ${response.statusCode}: ${text}`))
      })
    })
    sent.on('error', reject)
    sent.on('timeout', () => sent.destroy(new Error(`${url} does not answer`)))
    sent.end(body)
  })
}
