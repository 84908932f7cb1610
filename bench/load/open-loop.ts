// Sends requests at fixed times and answers how long each took, from when it should have been sent.

import { now } from '../core/clock.ts'
import { quantile } from '../core/stats.ts'
import { atFixedTimes, type Pace } from './pace.ts'
import { post } from './post.ts'

process.on('message', async ({ url, ...pace }: Pace & { url: string }) => {
  const took = await atFixedTimes(pace, async (due) => {
    const late = now() - due
    await post(url)
    return { due, latency: now() - due, late }
  })
  const latencies = took.map(({ latency }) => latency)
  process.send?.({
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    max: Math.max(...latencies),
    late: quantile(
      took.map(({ late }) => late),
      0.99,
    ),
    course: took.map(({ due, latency }) => [due, latency]),
  })
})
