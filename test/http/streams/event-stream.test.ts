import { connect } from 'node:net'
import Fastify from 'fastify'
import t from 'tap'
import type { EventStream } from '../../../src/http/streams/event-stream.ts'
import { EventStreams } from '../../../src/http/streams/event-streams.ts'
import type { Job } from '../../../src/jobs/job.ts'
import { until } from '../../support/until.ts'

/** Credentials that stay valid. */
const neverEnding = { watch: () => () => {} }

t.test(
  'above the maximum number of streams, new clients are asked to reconnect later, and open streams stay open',
  async (t) => {
    const streams = new EventStreams(new AbortController().signal, neverEnding, { maxStreams: 2 })
    const app = Fastify({ forceCloseConnections: true })
    app.get('/', (_request, reply) => {
      streams.open(reply, { encode: () => '', known: [], onClose: () => {} })
      return reply
    })
    const url = await app.listen()
    t.teardown(() => app.close())
    const disconnect = new AbortController()
    // Kept, because garbage collection of a response closes its stream.
    const open: Response[] = []
    for (let number = 0; number < 2; number++) open.push(await fetch(url, { signal: disconnect.signal }))
    t.equal(streams.size, 2)
    const retries = await Promise.all(
      Array.from({ length: 30 }, async () => {
        const response = await fetch(url)
        t.equal(response.status, 200)
        const [, milliseconds] = (await response.text()).match(/^retry: (\d+)\n\n$/) ?? []
        return Number(milliseconds)
      }),
    )
    t.ok(retries.every((milliseconds) => milliseconds >= 1_000 && milliseconds <= 5_000))
    t.ok(Math.max(...retries) - Math.min(...retries) > 500, 'the retry times of the clients differ')
    await until(() => streams.size === 2)
    disconnect.abort()
    await until(() => streams.size === 0)
    t.ok(open.every(({ ok }) => ok))
  },
)

t.test('a client that does not read during a burst of changes is disconnected immediately', async (t) => {
  const streams = new EventStreams(new AbortController().signal, neverEnding)
  const app = Fastify({ forceCloseConnections: true })
  const ended: string[] = []
  const opened = Promise.withResolvers<EventStream>()
  app.get('/', (_request, reply) => {
    const encode = ({ id }: Job) => `data: ${id}\n\n`
    opened.resolve(streams.open(reply, { encode, known: [], onClose: () => ended.push('unread') }))
    return reply
  })
  const url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  t.teardown(() => app.close())
  const socket = connect(Number(url.port), url.hostname)
  t.teardown(() => socket.destroy())
  socket.on('error', () => {}).pause()
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  const stream = await opened.promise
  for (let id = 1; id <= 25_000; id++) stream.send({ id: `${id}`, sequence: '1' } as Job)
  await until(() => ended.length === 1)
  t.equal(streams.size, 0)
})

t.test(
  'a client that stops reading is disconnected after some heartbeats; a client that reads stays connected',
  async (t) => {
    // The client that reads also runs in this process. It needs enough time to read within two heartbeats.
    const streams = new EventStreams(new AbortController().signal, neverEnding, { heartbeatMs: 1_000 })
    const app = Fastify({ forceCloseConnections: true })
    const open = new Map<string, EventStream>()
    app.get('/:name', (request, reply) => {
      const { name } = request.params as { name: string }
      const encode = ({ message }: Job) => `data: ${message}\n\n`
      open.set(name, streams.open(reply, { encode, known: [], onClose: () => open.delete(name) }))
      return reply
    })
    const url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
    t.teardown(() => app.close())
    const sockets = ['read', 'unread'].map((name) => {
      const socket = connect(Number(url.port), url.hostname)
      t.teardown(() => socket.destroy())
      socket.on('error', () => {})
      socket.write(`GET /${name} HTTP/1.1\r\nHost: x\r\n\r\n`)
      return socket
    })
    sockets[0]?.resume()
    sockets[1]?.pause()
    await until(() => open.size === 2)
    // Together, these messages are larger than the buffers of the kernel for a client that does not read.
    const message = 'x'.repeat(20_000)
    for (let id = 1; id <= 900; id++) {
      for (const stream of open.values()) stream.send({ id: `${id}`, sequence: '1', message } as Job)
    }
    await until(() => !open.has('unread'))
    t.ok(open.has('read'))
  },
)
