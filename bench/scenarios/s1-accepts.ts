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
  { name: 'computes', unit: '% of the time' },
  { name: 'forProcessor', unit: '% of the time' },
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
          '`computes` is for how much of the time the main thread of the API had a processor, `forProcessor` for how much it waited for one that another process had; for the rest it slept.',
        ],
      }
    }),
}

function goalsOf({ series }: Table): Goal[] {
  const figure = (name: string, metric: string) => medianOf(series, name, metric)
  const own = (metric: string) => figure(ours.name, metric)
  const [api, postgres, loader] = ['processCpu', 'postgresCpu', 'loaderCpu'].map((metric) => format(own(metric)))
  const most = (own('perSecond') / (own('computes') + own('forProcessor'))) * 100
  const goal = (text: string, than: string, least: number) => {
    const bound = format(most / figure(than, 'perSecond'))
    const why = `a request takes ${api} µs of a processor in the API, ${postgres} in Postgres and ${loader} in wrk, and there are ${cpus().length}; the thread of the API computed for ${format(own('computes'))} % of the time, and waited for a processor for ${format(own('forProcessor'))} %: had it never had to wait for anything else, that would be ${format(most)} requests a second, ${bound} × as many`
    return atLeast(series, { contender: ours.name, metric: 'perSecond', than, least, text, why })
  }
  return [
    goal('≥ 0.6 × empty Fastify at 256 connections', empty.name, 0.6),
    goal('≥ 8 × a `boss.send` transaction for each request', boss.name, 8),
    goal('≥ 1.5 × pgbench with a transaction for each request', floor.name, 1.5),
  ]
}
