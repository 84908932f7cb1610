import { type OpenLoad, ours, peer } from '../contenders/http.ts'
import { describeLeastLatency } from '../core/baseline-latency.ts'
import { format } from '../core/format.ts'
import { atMost } from '../core/goal.ts'
import { startOpenLoop } from '../core/open-loop.ts'
import {
  interleave,
  type Metric,
  type Scenario,
  type ScenarioResult,
  warmUp,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/series.ts'

const boss = peer('pg-boss, one transaction per request', 'http-pg-boss.ts')
const empty = peer('empty Fastify', 'http-empty.ts')

const perSecond = 500
const metrics: Metric[] = [
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'max', label: 'max (ms)' },
  { name: 'late', label: 'load generator late, p99 (ms)' },
  { name: 'commits', label: 'commits/request' },
  { name: 'postgresCpu', label: 'Postgres CPU (µs/request)' },
  { name: 'processCpu', label: 'server CPU (µs/request)' },
]

export const acceptLatency: Scenario = {
  name: 'S2',
  title: 'Accept latency',
  run: (bench) =>
    withContenders<OpenLoad, ScenarioResult>(bench, [ours, boss, empty], async (opened) => {
      const loader = startOpenLoop(bench.directory)
      try {
        const load = { loader, perSecond, seconds: bench.quick ? 1 : 10 }
        const series = await interleave(bench, opened, metrics, load, { loader, ...warmUp })
        const contender = ours.name
        const percentOfCore = (metric: string) => format((medianOf(series, contender, metric) * perSecond) / 1e4)
        const reason = [
          `A request takes three round trips to Postgres, one of them with a commit: ${describeLeastLatency(bench.baseline, 3, 1)}.`,
          `The empty Fastify answers in ${format(medianOf(series, empty.name, 'p50'))} ms.`,
          `At this rate the API takes ${percentOfCore('processCpu')} % of a core and Postgres ${percentOfCore('postgresCpu')} %, on a machine that they share with the load generator.`,
        ].join(' ')
        const goal = (metric: string, maximum: number) =>
          atMost(series, {
            contender,
            metric,
            maximum,
            unit: 'ms',
            measure: `${metric} at ${perSecond} requests/s`,
            reason,
          })
        return {
          tables: [
            {
              caption: `Latency from when a request was due until its 202, open loop at ${perSecond} requests/s`,
              metrics,
              series,
            },
          ],
          goals: [goal('p50', 2), goal('p99', 8)],
          notes: ['The load generator sometimes sends late. This delay counts as latency.'],
        }
      } finally {
        await loader.stop()
      }
    }),
}
