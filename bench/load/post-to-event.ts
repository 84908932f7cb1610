// Sends POSTs at fixed times and follows the events of all jobs on one stream. Reports how long it took from the due
// time of a POST until the final event of its job arrived.
import { once } from 'node:events'
import { type ClientRequest, get, type IncomingMessage } from 'node:http'
import { now } from '../core/clock.ts'
import { quantile } from '../core/stats.ts'
import { type Pace, runAtFixedTimes } from './pace.ts'
import { post } from './post.ts'

/** Bounds how long the final event of a job may take. */
const finalEventTimeoutMs = 30_000

process.on('message', async ({ origin, ...pace }: Pace & { origin: string }) => {
  const events = await followEvents(`${origin}/events`)
  const jobs = await runAtFixedTimes(pace, async (due) => {
    const { id } = JSON.parse(await post(`${origin}/notes`)) as { id: string }
    const accepted = now()
    return { latency: (await events.finalEventOf(id)) - due, accepted: accepted - due }
  })
  events.stop()
  const latencies = jobs.map(({ latency }) => latency)
  process.send?.({
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    max: Math.max(...latencies),
    accepted: quantile(
      jobs.map(({ accepted }) => accepted),
      0.5,
    ),
  })
})

async function followEvents(url: string) {
  // The final event of a job may arrive before the 202 of its POST.
  const arrivals = new Map<string, PromiseWithResolvers<number>>()
  const arrivalOf = (id: string) => {
    const arrival = arrivals.get(id) ?? Promise.withResolvers<number>()
    arrivals.set(id, arrival)
    return arrival
  }
  const sent: ClientRequest = get(url, { headers: { accept: 'text/event-stream' } })
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  if (response.statusCode !== 200) throw new Error(`GET ${url} returned ${response.statusCode}`)
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
      if (status === 'succeeded') arrivalOf(id).resolve(at)
    }
  })
  return {
    /** Resolves to the time at which the final event of a job arrived. */
    finalEventOf: (id: string): Promise<number> => {
      const seconds = finalEventTimeoutMs / 1000
      const reject = () => arrivalOf(id).reject(new Error(`No final event of job ${id} within ${seconds} s`))
      const timer = setTimeout(reject, finalEventTimeoutMs)
      return arrivalOf(id).promise.finally(() => clearTimeout(timer))
    },
    stop: () => sent.destroy(),
  }
}
