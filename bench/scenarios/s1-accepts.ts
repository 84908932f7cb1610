import { type HttpLoad, ours, peer } from '../contenders/http.ts'
import { floor } from '../contenders/http-pgbench.ts'
import {
  format,
  type Goal,
  interleave,
  type Metric,
  type Scenario,
  type Table,
  withContenders,
} from '../core/scenario.ts'
import { medianOf, ratio } from '../core/stats.ts'

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
]

export const accepts: Scenario = {
  name: 'S1',
  title: 'HTTP accepts: key, domain row, status and job in one transaction',
  run: (bench) =>
    withContenders<HttpLoad, { tables: Table[]; goals: Goal[] }>(bench, [ours, boss, floor, empty], async (opened) => {
      const seconds = bench.quick ? 1 : 5
      const tables: Table[] = []
      for (const connections of bench.quick ? [1, 256] : [1, 64, 256]) {
        bench.say(`${connections} connections`)
        // The first seconds belong to the compiler; a quick run, which tells nothing of speed, does without.
        for (const { opened: one } of bench.quick ? [] : opened) await one.measure({ connections, seconds: 3 })
        const series = await interleave(bench, opened, { connections, seconds })
        tables.push({ caption: `Requests accepted, ${connections} connections, closed loop`, metrics, series })
      }
      return { tables, goals: goalsOf(tables.at(-1) as Table) }
    }),
}

function goalsOf({ series }: Table): Goal[] {
  const spent = (name: string, metric: string) => format(medianOf(series, name, metric))
  const why = `a request takes ${spent(ours.name, 'processCpu')} µs of a processor in the API and ${spent(ours.name, 'postgresCpu')} in Postgres, ${spent(empty.name, 'processCpu')} in an empty Fastify, ${spent(boss.name, 'processCpu')} and ${spent(boss.name, 'postgresCpu')} with pg-boss, and what loads needs some as well`
  const goal = (text: string, contender: string, least: number): Goal => {
    const measured = ratio(series, 'perSecond', ours.name, contender)
    return { goal: text, measured: `${format(measured)} ×`, isMet: measured >= least, why }
  }
  return [
    goal('≥ 0.6 × empty Fastify at 256 connections', empty.name, 0.6),
    goal('≥ 8 × a `boss.send` transaction for each request', boss.name, 8),
    goal('≥ 1.5 × pgbench with a transaction for each request', floor.name, 1.5),
  ]
}
