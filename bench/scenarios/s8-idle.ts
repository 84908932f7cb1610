import { type IdleLoad, idle } from '../contenders/idle.ts'
import { atMost } from '../core/goal.ts'
import { format, interleave, type Metric, type Outcome, type Scenario, withContenders } from '../core/scenario.ts'
import type { Counted } from '../core/statements.ts'
import { medianOf } from '../core/stats.ts'

const statements: Metric = { name: 'statements', unit: '1/s' }
const cpu: Metric = { name: 'cpu', unit: '% of a core' }
const apiCpu: Metric = { name: 'apiCpu', unit: '% of a core' }
const workerCpu: Metric = { name: 'workerCpu', unit: '% of a core' }
const metrics: Metric[] = [
  statements,
  { name: 'transactions', unit: '1/s' },
  cpu,
  apiCpu,
  workerCpu,
  { name: 'postgresCpu', unit: '% of a core' },
]

export const idling: Scenario = {
  name: 'S8',
  title: 'Idle: an API and a worker with nothing to do',
  run: (bench) =>
    withContenders<IdleLoad, Outcome>(bench, [idle], async (opened) => {
      const seconds = bench.quick ? 3 : 60
      let last: string[] = []
      const onCounted = (counted: readonly Counted[], seconds: number) => {
        last = counted.slice(0, mostShown).map((one) => lineOf(one, seconds))
      }
      const series = await interleave(bench, opened, { seconds, onCounted })
      const contender = idle.name
      const figure = ({ name }: Metric) => format(medianOf(series, contender, name))
      const why = `the API takes ${figure(apiCpu)} % of a core and the worker ${figure(workerCpu)} %; what they send is listed below`
      return {
        tables: [{ caption: `What nobody asked for, in ${seconds} s`, metrics, series }],
        goals: [
          atMost(series, { contender, metric: statements, most: 2, text: '≤ 2 statements a second', why }),
          atMost(series, { contender, metric: cpu, most: 1, text: '< 1 % of a core, both processes together', why }),
        ],
        notes: [
          '`statements` are those in the log of the server, `begin` and `commit` among them; `transactions` are what `pg_stat_database` has of that database, rolled back or not. That view may be some seconds behind, and has the server’s own as well, such as autovacuum’s. The most frequent ones of the last round:',
          last.join('\n'),
        ],
      }
    }),
}

/** Statements that are shown, and of each so many characters. */
const mostShown = 12
const longest = 160

const lineOf = ({ application, statement, count }: Counted, seconds: number): string =>
  `- ${format(count / seconds)} /s, ${application}: \`${statement.slice(0, longest)}${statement.length > longest ? '…' : ''}\``
