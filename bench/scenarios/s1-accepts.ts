import { cpus } from 'node:os'
import { type HttpLoad, ours, peer } from '../contenders/http.ts'
import { floor } from '../contenders/http-pgbench.ts'
import { atLeast } from '../core/goal.ts'
import {
  format,
  type Goal,
  interleave,
  type Metric,
  type Scenario,
  type Table,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/stats.ts'

const empty = peer('Fastify, empty', 'http-empty.ts')
const boss = peer('pg-boss, a transaction each', 'http-pg-boss.ts')

const metrics: Metric[] = [
  { name: 'perSecond', unit: '1/s' },
  { name: 'p50', unit: 'ms' },
  { name: 'p99', unit: 'ms' },
  { name: 'walBytes', unit: 'bytes a request' },
  { name: 'commits', unit: 'a request' },
  { name: 'postgresCpu', unit: 'µs a request' },
  { name: 'processCpu', unit: 'µs a request' },
  { name: 'loaderCpu', unit: 'µs a request' },
  { name: 'threadCpu', unit: 'µs a request' },
  { name: 'threadWait', unit: 'µs a request' },
]

export const accepts: Scenario = {
  name: 'S1',
  title: 'HTTP accepts: key, domain row, status and job in one transaction',
  run: (bench) =>
    withContenders<HttpLoad, { tables: Table[]; goals: Goal[] }>(bench, [ours, boss, floor, empty], async (opened) => {
      const seconds = bench.quick ? 1 : 5
      const tables: Table[] = []
      for (const connections of bench.quick ? [256] : [1, 64, 256]) {
        bench.say(`${connections} connections`)
        const series = await interleave(bench, opened, { connections, seconds }, { connections, seconds: 3 })
        tables.push({ caption: `Requests accepted, ${connections} connections, closed loop`, metrics, series })
      }
      return {
        tables,
        goals: goalsOf(tables.at(-1) as Table),
        notes: [
          '`threadCpu` is what the main thread of the API has computed, and `threadWait` how long it could have, and waited for a processor that another process had; for the rest of the time it slept.',
        ],
      }
    }),
}

function goalsOf({ series }: Table): Goal[] {
  const figure = (name: string, metric: string) => medianOf(series, name, metric)
  const own = (metric: string) => figure(ours.name, metric)
  const each = (...metrics: string[]) => metrics.map((metric) => format(own(metric)))
  const [api, postgres, loader] = each('processCpu', 'postgresCpu', 'loaderCpu')
  const [computes, waits] = each('threadCpu', 'threadWait')
  const ofAll = (cpus().length * 1e6) / (own('processCpu') + own('postgresCpu') + own('loaderCpu'))
  const ofThread = 1e6 / (own('threadCpu') + own('threadWait'))
  const goal = (text: string, than: string, least: number) => {
    const bounds = [ofAll, ofThread].map(
      (most) => `${format(most)} a second, ${format(most / figure(than, 'perSecond'))} ×`,
    )
    const why = `a request takes ${api} µs of a processor in the API, ${postgres} in Postgres and ${loader} in wrk: ${cpus().length} processors that never rest come to ${bounds[0]}; the API is one thread, which computes for ${computes} µs and waits for ${waits} until a processor is free: should it never wait for anything else, it comes to ${bounds[1]}`
    return atLeast(series, { contender: ours.name, metric: 'perSecond', than, least, text, why })
  }
  return [
    goal('≥ 0.6 × empty Fastify at 256 connections', empty.name, 0.6),
    goal('≥ 8 × a `boss.send` transaction for each request', boss.name, 8),
    goal('≥ 1.5 × pgbench with a transaction for each request', floor.name, 1.5),
  ]
}
