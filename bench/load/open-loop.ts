// Sends requests at fixed times. Reports the latency of each request, counted from its due time.

import { now } from '../core/clock.ts'
import { quantile } from '../core/stats.ts'
import { type Pace, runAtFixedTimes } from './pace.ts'
import { post } from './post.ts'

process.on('message', async ({ url, ...pace }: Pace & { url: string }) => {
  const sent = await runAtFixedTimes(pace, async (due) => {
    const late = now() - due
    await post(url)
    return { due, latency: now() - due, late }
  })
  const latencies = sent.map(({ latency }) => latency)
  process.send?.({
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    max: Math.max(...latencies),
    late: quantile(
      sent.map(({ late }) => late),
      0.99,
    ),
    requests: sent.map(({ due, latency }) => [due, latency]),
  })
})
