import { type OpenLoad, ours, peer } from '../contenders/http.ts'
import { atMost } from '../core/goal.ts'
import { startOpenLoop } from '../core/open-loop.ts'
import {
  format,
  interleave,
  type Metric,
  type Outcome,
  type Scenario,
  warmUp,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/stats.ts'
import { leastWait } from '../core/waits.ts'

const boss = peer('pg-boss, a transaction each', 'http-pg-boss.ts')
const empty = peer('Fastify, empty', 'http-empty.ts')

const perSecond = 500
const p50: Metric = { name: 'p50', unit: 'ms' }
const p99: Metric = { name: 'p99', unit: 'ms' }
const metrics: Metric[] = [
  p50,
  p99,
  { name: 'max', unit: 'ms' },
  { name: 'late', unit: 'ms' },
  { name: 'commits', unit: 'a request' },
  { name: 'postgresCpu', unit: 'µs a request' },
  { name: 'processCpu', unit: 'µs a request' },
]

export const acceptLatency: Scenario = {
  name: 'S2',
  title: `Accept latency at ${perSecond} requests a second`,
  run: (bench) =>
    withContenders<OpenLoad, Outcome>(bench, [ours, boss, empty], async (opened) => {
      const loader = startOpenLoop(bench.directory)
      try {
        const load = { loader, perSecond, seconds: bench.quick ? 1 : 10 }
        const series = await interleave(bench, opened, load, { loader, ...warmUp })
        const caption = `From when a request should have been sent to its 202, ${perSecond} a second, open loop`
        const contender = ours.name
        const answered = format(medianOf(series, empty.name, p50.name))
        const core = (metric: string) => format((medianOf(series, contender, metric) * perSecond) / 1e4)
        const least = leastWait(bench.waits, 4, 1)
        const why = `four round trips to Postgres, one of them a commit, take ${least}; an empty Fastify answers in ${answered} ms; and at that rate the API takes ${core('processCpu')} % of a core and Postgres ${core('postgresCpu')} %, on a machine that what loads shares`
        return {
          tables: [{ caption, metrics, series }],
          goals: [
            atMost(series, { contender, metric: p50, most: 2, text: 'p50 ≤ 2 ms', why }),
            atMost(series, { contender, metric: p99, most: 8, text: 'p99 ≤ 8 ms', why }),
          ],
          notes: ['`late` is how late what loads has sent 99 of 100 requests at most; it is part of the latency.'],
        }
      } finally {
        await loader.stop()
      }
    }),
}
