import { connect } from 'node:net'
import Fastify from 'fastify'
import t from 'tap'
import { createEventStreams, type EventStream } from '../../src/http/event-stream.ts'
import type { Job } from '../../src/jobs/job.ts'
import { until } from '../support/until.ts'

t.test(
  'above its bound a process sends away who comes, each for another time, and goes on serving the others',
  async (t) => {
    const streams = createEventStreams(new AbortController().signal, { most: 2 })
    const app = Fastify({ forceCloseConnections: true })
    app.get('/', (_request, reply) => {
      streams.open(reply, { frame: () => '', known: [], onEnd: () => {} })
      return reply
    })
    const url = await app.listen()
    t.teardown(() => app.close())
    const leaving = new AbortController()
    for (let number = 0; number < 2; number++) await fetch(url, { signal: leaving.signal })
    t.equal(streams.count(), 2)
    const retries = await Promise.all(
      Array.from({ length: 30 }, async () => {
        const response = await fetch(url)
        t.equal(response.status, 200)
        const [, milliseconds] = (await response.text()).match(/^retry: (\d+)\n\n$/) ?? []
        return Number(milliseconds)
      }),
    )
    t.ok(retries.every((milliseconds) => milliseconds >= 1_000 && milliseconds <= 5_000))
    t.ok(Math.max(...retries) - Math.min(...retries) > 500, 'not all at once')
    await until(() => streams.count() === 2)
    leaving.abort()
    await until(() => streams.count() === 0)
  },
)

t.test('who does not read while very much happens is cut off at once', async (t) => {
  const streams = createEventStreams(new AbortController().signal)
  const app = Fastify({ forceCloseConnections: true })
  const ended: string[] = []
  const opened = Promise.withResolvers<EventStream>()
  app.get('/', (_request, reply) => {
    const frame = ({ id }: Job) => `data: ${id}\n\n`
    opened.resolve(streams.open(reply, { frame, known: [], onEnd: () => ended.push('unread') }))
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
  t.equal(streams.count(), 0)
})

t.test('who does not read on is cut off in the end, and who reads is not', async (t) => {
  // Two of them must be long enough for the one who reads, in this very process.
  const streams = createEventStreams(new AbortController().signal, { beatEvery: 1_000 })
  const app = Fastify({ forceCloseConnections: true })
  const open = new Map<string, EventStream>()
  app.get('/:name', (request, reply) => {
    const { name } = request.params as { name: string }
    const frame = ({ message }: Job) => `data: ${message}\n\n`
    open.set(name, streams.open(reply, { frame, known: [], onEnd: () => open.delete(name) }))
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
  // More than the kernel takes for a reader that is not there.
  const message = 'x'.repeat(20_000)
  for (let id = 1; id <= 900; id++) {
    for (const stream of open.values()) stream.send({ id: `${id}`, sequence: '1', message } as Job)
  }
  await until(() => !open.has('unread'))
  t.ok(open.has('read'))
})
