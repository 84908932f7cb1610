// Receives webhooks. Answers those to /answering/…, never those to /silent/…, and measures how long each delivery took.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { quantile } from '../core/stats.ts'

/** A delivery that has not arrived by then counts as missing. */
const maxWaitMs = 60_000
const pollMs = 100

let latencies: number[] = []
const server = createServer(async (request, response) => {
  if (!request.url?.startsWith('/answering/')) return
  const { data } = JSON.parse(await text(request)) as { data: { endedAt: string } }
  // Postgres runs on this machine, so both times come from the same clock.
  latencies.push(Date.now() - Date.parse(data.endedAt))
  response.writeHead(204).end()
}).listen(0, '127.0.0.1')
await once(server, 'listening')

/** Waits until the expected number of deliveries has arrived, and reports how long they took. */
process.on('message', async ({ expected }: { expected: number }) => {
  const deadline = Date.now() + maxWaitMs
  while (latencies.length < expected && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
  const received = latencies
  latencies = []
  process.send?.({
    p50: quantile(received, 0.5),
    p99: quantile(received, 0.99),
    max: Math.max(...received),
    missing: expected - received.length,
  })
})
process.send?.({ port: (server.address() as AddressInfo).port })
