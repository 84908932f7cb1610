// POSTs at fixed times and follows the events of all jobs on one stream; answers how long each job took to its end.
import { once } from 'node:events'
import { type ClientRequest, get, type IncomingMessage } from 'node:http'
import { now } from '../core/clock.ts'
import { quantile } from '../core/stats.ts'
import { atFixedTimes, type Pace } from './pace.ts'
import { post } from './post.ts'

/** So long the end of a job is waited for, in milliseconds. */
const patience = 30_000

process.on('message', async ({ origin, ...pace }: Pace & { origin: string }) => {
  const ends = await follow(`${origin}/events`)
  const took = await atFixedTimes(pace, async (due) => {
    const { id } = JSON.parse(await post(`${origin}/notes`)) as { id: string }
    const accepted = now()
    return { latency: (await ends.of(id)) - due, accepted: accepted - due }
  })
  ends.stop()
  const latencies = took.map(({ latency }) => latency)
  process.send?.({
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    max: Math.max(...latencies),
    accepted: quantile(
      took.map(({ accepted }) => accepted),
      0.5,
    ),
  })
})

/** Follows a stream of events: when the end of a job arrived, be it before its 202. */
async function follow(url: string) {
  const arrived = new Map<string, PromiseWithResolvers<number>>()
  const endOf = (id: string) => {
    const end = arrived.get(id) ?? Promise.withResolvers<number>()
    arrived.set(id, end)
    return end
  }
  const sent: ClientRequest = get(url, { headers: { accept: 'text/event-stream' } })
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  if (response.statusCode !== 200) throw new Error(`${url} answered ${response.statusCode}`)
  let rest = ''
  response.setEncoding('utf8')
  response.on('error', () => {})
  response.on('data', (part: string) => {
    const at = now()
    const frames = (rest + part).split('\n\n')
    rest = frames.pop() as string
    for (const frame of frames) {
      const [, data] = frame.match(/^data: (.*)$/m) ?? []
      const { id, status } = data ? JSON.parse(data) : {}
      if (status === 'failed' || status === 'canceled') throw new Error(`Job ${id} is ${status}`)
      if (status === 'succeeded') endOf(id).resolve(at)
    }
  })
  return {
    of: (id: string): Promise<number> => {
      const timer = setTimeout(() => endOf(id).reject(new Error(`The end of ${id} does not come`)), patience)
      return endOf(id).promise.finally(() => clearTimeout(timer))
    },
    stop: () => sent.destroy(),
  }
}
