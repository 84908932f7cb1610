import { cpus } from 'node:os'
import { type HttpLoad, ours, peer } from '../contenders/http.ts'
import { floor } from '../contenders/http-pgbench.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import { peerRow } from '../core/peers.ts'
import {
  type Goal,
  interleave,
  type Metric,
  type Scenario,
  type ScenarioResult,
  type Table,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/series.ts'

const empty = peer('empty Fastify', 'http-empty.ts')
const bare = peer('by hand, one statement for waiting requests', 'http-bare.ts')
const boss = peer('pg-boss, one transaction per request', 'http-pg-boss.ts')

const metrics: Metric[] = [
  { name: 'perSecond', label: 'requests/s' },
  { name: 'p50', label: 'p50 (ms)' },
  { name: 'p99', label: 'p99 (ms)' },
  { name: 'walBytes', label: 'WAL bytes/request' },
  { name: 'commits', label: 'commits/request' },
  { name: 'postgresCpu', label: 'Postgres CPU (µs/request)' },
  { name: 'processCpu', label: 'server CPU (µs/request)' },
  { name: 'loaderCpu', label: 'wrk CPU (µs/request)' },
  { name: 'threadCpu', label: 'main thread CPU (µs/request)' },
  { name: 'threadWait', label: 'main thread waiting (µs/request)' },
]

export const accepts: Scenario = {
  name: 'S1',
  title: 'HTTP accepts',
  run: (bench) =>
    withContenders<HttpLoad, ScenarioResult>(bench, [ours, bare, boss, floor, empty], async (opened) => {
      const seconds = bench.quick ? 1 : 5
      const tables: Table[] = []
      for (const connections of bench.quick ? [256] : [1, 64, 256]) {
        bench.log(`connections: ${connections}`)
        const series = await interleave(bench, opened, metrics, { connections, seconds }, { connections, seconds: 3 })
        tables.push({ caption: `Accepted requests, closed loop, connections: ${connections}`, metrics, series })
      }
      return {
        tables,
        goals: goalsOf(tables.at(-1) as Table),
        peers: [
          peerRow((tables.at(-1) as Table).series, 'perSecond', {
            measure: 'HTTP requests/s that store a job and a row of the app, 256 connections',
            better: 'more',
            contenders: { Accepted: ours.name, 'pg-boss': boss.name, 'by hand': bare.name },
          }),
        ],
        notes: [
          'Accepted, the server by hand and pgbench write the idempotency key, the domain row, the status row and the job. pg-boss writes the domain row and the job. The empty Fastify validates the request and writes nothing.',
          'The server by hand is written for this one route, with node:http, `JSON.parse` and one statement on each of two connections. It has no limits, timeouts, tenants, triggers or partitions.',
          '"Main thread waiting" is the time in which the main thread of the server was ready to run, but waited for a processor. For the rest of the time it slept.',
        ],
      }
    }),
}

function goalsOf({ series }: Table): Goal[] {
  const own = (metric: string) => medianOf(series, ours.name, metric)
  const processors = cpus().length
  const maxByProcessors = (processors * 1e6) / (own('processCpu') + own('postgresCpu') + own('loaderCpu'))
  const maxByThread = 1e6 / (own('threadCpu') + own('threadWait'))
  const goal = (other: string, minimum: number) => {
    const bound = (maximum: number) =>
      `${format(maximum)} requests/s (${format(maximum / medianOf(series, other, 'perSecond'))} ×)`
    const reason = [
      `A request takes ${format(own('processCpu'))} µs of CPU in the API, ${format(own('postgresCpu'))} µs in Postgres and ${format(own('loaderCpu'))} µs in wrk.`,
      `With ${processors} processors always busy, the machine could accept ${bound(maxByProcessors)}.`,
      `The API has one thread, which computes for ${format(own('threadCpu'))} µs per request and waits ${format(own('threadWait'))} µs for a free processor. If it never waited for anything else, it could accept ${bound(maxByThread)}.`,
    ].join(' ')
    const measure = 'requests/s at 256 connections'
    return atLeast(series, { contender: ours.name, metric: 'perSecond', other, minimum, measure, reason })
  }
  return [goal(bare.name, 0.7), goal(boss.name, 8), goal(floor.name, 1.5)]
}
