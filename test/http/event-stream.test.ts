import Fastify from 'fastify'
import t from 'tap'
import { createEventStreams } from '../../src/http/event-stream.ts'
import { until } from '../support/until.ts'

t.test(
  'above its bound a process sends away who comes, each for another time, and goes on serving the others',
  async (t) => {
    const streams = createEventStreams(new AbortController().signal, 2)
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
