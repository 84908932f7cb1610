import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import type { Place } from '../processes.ts'
import { acknowledgedMore, type Row } from '../stage.ts'
import { unanswered } from './postgres.ts'

const post = (body: string | Buffer, headers = 'Content-Type: application/json\r\n', path = '/settled'): Buffer =>
  Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}`),
    Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n`),
    Buffer.from(body),
  ])

const get = (path: string, headers = '') =>
  Buffer.from(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`)

/** What nobody honest sends; each is answered with a 4xx, or its connection is closed. */
const bad: Readonly<Record<string, Buffer>> = {
  'U+0000': post('{"token":"\\u0000"}'),
  'a lone surrogate': post('{"token":"\\ud800"}'),
  'a number without end': post('{"token":"x","takes":1e400}'),
  'deep nesting': post(`${'['.repeat(100_000)}${']'.repeat(100_000)}`),
  'deep nesting in a member': post(`{"token":"x","more":${'['.repeat(10_000)}${']'.repeat(10_000)}}`),
  'a body over the limit': post(`{"token":"${'x'.repeat(2 ** 20)}"}`),
  'a wrong content type': post('{"token":"x"}', 'Content-Type: text/plain\r\n'),
  'no content type': post('{"token":"x"}', ''),
  'invalid UTF-8': post(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])),
  __proto__: post('{"token":"x","__proto__":{"isAdmin":true}}'),
  'a constructor': post('{"token":"x","constructor":{"prototype":{}}}'),
  'half of a JSON': post('{"token":'),
  'an id that is none': get('/jobs/none'),
  'an id that is SQL': get("/jobs/1'%20or%20'1'='1"),
  'a path that cannot be decoded': get('/jobs/%E0%A4%A'),
  'a path that climbs': get('/jobs/../../etc/passwd'),
  'a huge query': get(`/jobs?${'x'.repeat(20_000)}`),
  'a flood of headers': get('/jobs', Array.from({ length: 150 }, (_, n) => `X-${n}: x\r\n`).join('')),
  'a huge header': get('/jobs', `X-Huge: ${'x'.repeat(100_000)}\r\n`),
  'an empty key': post('{"token":"x"}', 'Content-Type: application/json\r\nIdempotency-Key: \r\n'),
  'two keys': post('{"token":"x"}', 'Content-Type: application/json\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n'),
  'no HTTP at all': Buffer.from('\x16\x03\x01\x02\x00\x01\x00'),
  'two lengths': Buffer.from('POST /settled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}'),
  'a length and chunks': Buffer.from(
    'POST /settled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ),
}

/** How much memory an API may take with so many streams that nobody reads, in MiB. */
const mostMemory = (streams: number) => 300 + streams / 2

export const badInput: Row = {
  name: 'bad-input',
  summary:
    'bad requests, slow ones, idle event streams, readers that never read: a 4xx or the end; neighbours unharmed',
  workers: 1,
  async story(stage) {
    const [api] = stage.apis as [Place]
    const load = stage.load()
    await acknowledgedMore(load, 20)
    const findings: string[] = []
    for (const [name, bytes] of Object.entries(bad)) {
      const answer = await exchange(api, bytes)
      if (answer !== 'closed' && !/^4\d\d$/.test(answer)) findings.push(`${name} was answered ${answer}`)
    }
    const idle: Socket[] = []
    const open = async (bytes: Buffer) => {
      const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
      socket.on('error', () => {})
      await once(socket, 'connect')
      // Nobody reads what comes.
      socket.pause()
      socket.write(bytes)
      idle.push(socket)
    }
    const streams = stage.short ? 200 : 2_000
    for (let n = 0; n < streams; n++) await open(get('/events', 'Accept: text/event-stream\r\n'))
    for (let n = 0; n < 50; n++) await open(post('{"token":"slow"}').subarray(0, -4))
    const goesOn = await acknowledgedMore(load, stage.short ? 100 : 300, 120)
    if (!goesOn) findings.push('Nothing was accepted any more')
    const memory = await memoryOf(api)
    if (memory > mostMemory(streams)) findings.push(`The API takes ${memory} MiB`)
    for (const socket of idle) socket.destroy()
    await load.stop()
    const faults = Object.keys(bad).length + idle.length
    return { faults, notes: [`${memory} MiB`], findings: [...findings, ...unanswered(load.refusals)] }
  },
}

/** Sends bytes; answers the status, or how it ended. */
async function exchange(api: Place, bytes: Buffer): Promise<string> {
  const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
  let text = ''
  socket.setTimeout(10_000, () => socket.destroy())
  socket.on('error', () => {})
  socket.on('data', (piece) => {
    text += piece.toString('latin1')
  })
  // `once` would reject when the connection is reset, which is an answer too.
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.write(bytes)
  await closed
  return text.match(/^HTTP\/1\.1 (\d{3})/)?.[1] ?? 'closed'
}

/** The resident memory of a process, in MiB. */
async function memoryOf(place: Place): Promise<number> {
  const status = await readFile(`/proc/${place.pid()}/status`, 'utf8')
  return Math.round(Number(status.match(/VmRSS:\s+(\d+)/)?.[1]) / 1024)
}
