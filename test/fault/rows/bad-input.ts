import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { findServerErrors } from '../findings.ts'
import { nothingAccepted, type Row, waitForAcknowledgements } from '../row.ts'
import type { SupervisedProcess } from '../supervised-process.ts'

const post = (body: string | Buffer, headers = 'Content-Type: application/json\r\n', path = '/settled'): Buffer =>
  Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}`),
    Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n`),
    Buffer.from(body),
  ])

const get = (path: string, headers = '') =>
  Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n`)

/** Malformed or hostile requests. The API must answer each with a 4xx or close its connection. */
const badRequests: Readonly<Record<string, Buffer>> = {
  'U+0000': post('{"token":"\\u0000"}'),
  'a lone surrogate': post('{"token":"\\ud800"}'),
  'a number beyond the range of a double': post('{"token":"x","durationMs":1e400}'),
  'deep nesting': post(`${'['.repeat(100_000)}${']'.repeat(100_000)}`),
  'deep nesting in a member': post(`{"token":"x","more":${'['.repeat(10_000)}${']'.repeat(10_000)}}`),
  'a body over the limit': post(`{"token":"${'x'.repeat(2 ** 20)}"}`),
  'a wrong content type': post('{"token":"x"}', 'Content-Type: text/plain\r\n'),
  'no content type': post('{"token":"x"}', ''),
  'invalid UTF-8': post(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])),
  'a member named __proto__': post('{"token":"x","__proto__":{"isAdmin":true}}'),
  'a member named constructor': post('{"token":"x","constructor":{"prototype":{}}}'),
  'truncated JSON': post('{"token":'),
  'an id that is not a UUID': get('/jobs/none'),
  'an id that contains SQL': get("/jobs/1'%20or%20'1'='1"),
  'a path that cannot be decoded': get('/jobs/%E0%A4%A'),
  'a path with ..': get('/jobs/../../etc/passwd'),
  'a huge query': get(`/jobs?${'x'.repeat(20_000)}`),
  'too many headers': get('/jobs', Array.from({ length: 150 }, (_, n) => `X-${n}: x\r\n`).join('')),
  'a huge header': get('/jobs', `X-Huge: ${'x'.repeat(100_000)}\r\n`),
  'an empty idempotency key': post('{"token":"x"}', 'Content-Type: application/json\r\nIdempotency-Key: \r\n'),
  'two idempotency keys': post(
    '{"token":"x"}',
    'Content-Type: application/json\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n',
  ),
  'a TLS handshake': Buffer.from('\x16\x03\x01\x02\x00\x01\x00'),
  'two Content-Length headers': Buffer.from(
    'POST /settled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}',
  ),
  'Content-Length and Transfer-Encoding': Buffer.from(
    'POST /settled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ),
}

/** The memory limit of an API process that serves unread event streams. */
const maxMemoryMiB = (streamCount: number) => 300 + streamCount / 2

export const badInput: Row = {
  name: 'bad-input',
  summary:
    'Clients send malformed or slow requests, or never read their event streams. Each bad request gets a 4xx or a closed connection. Other clients are unaffected.',
  workerCount: 1,
  async run(context) {
    const [api] = context.apis as [SupervisedProcess]
    const load = context.startLoad()
    await waitForAcknowledgements(load, 20)
    const findings: string[] = []
    for (const [name, bytes] of Object.entries(badRequests)) {
      const answer = await exchange(api, bytes)
      if (answer !== 'closed' && !/^4\d\d$/.test(answer)) findings.push(`${name} was answered with ${answer}`)
    }
    const idle: Socket[] = []
    const open = async (bytes: Buffer) => {
      const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
      socket.on('error', () => {})
      await once(socket, 'connect')
      // A paused socket reads nothing.
      socket.pause()
      socket.write(bytes)
      idle.push(socket)
    }
    const streamCount = context.isShort ? 200 : 2_000
    for (let n = 0; n < streamCount; n++) await open(get('/events', 'Accept: text/event-stream\r\n'))
    for (let n = 0; n < 50; n++) await open(post('{"token":"slow"}').subarray(0, -4))
    const isAccepting = await waitForAcknowledgements(load, context.isShort ? 100 : 300, 120)
    if (!isAccepting) findings.push(nothingAccepted)
    const memoryMiB = await readMemoryMiB(api)
    if (memoryMiB > maxMemoryMiB(streamCount)) findings.push(`The API uses ${memoryMiB} MiB of memory`)
    for (const socket of idle) socket.destroy()
    await load.stop()
    return {
      faultCount: Object.keys(badRequests).length + idle.length,
      notes: [`${memoryMiB} MiB`],
      findings: [...findings, ...findServerErrors(load.refusals)],
    }
  },
}

const exchangeTimeoutMs = 10_000

/** Sends bytes. Returns the status of the response, or `closed` if there is no response. */
async function exchange(api: SupervisedProcess, bytes: Buffer): Promise<string> {
  const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
  let text = ''
  socket.setTimeout(exchangeTimeoutMs, () => socket.destroy())
  socket.on('error', () => {})
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  // A reset of the connection is an expected answer. `events.once` would reject at a reset.
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.write(bytes)
  await closed
  return text.match(/^HTTP\/1\.1 (\d{3})/)?.[1] ?? 'closed'
}

/** Reads the resident memory of a process. */
async function readMemoryMiB({ pid }: SupervisedProcess): Promise<number> {
  const status = await readFile(`/proc/${pid()}/status`, 'utf8')
  return Math.round(Number(status.match(/VmRSS:\s+(\d+)/)?.[1]) / 1024)
}
