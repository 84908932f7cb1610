import { type IdleLoad, idle } from '../contenders/idle.ts'
import { format } from '../core/format.ts'
import { atMost } from '../core/goal.ts'
import {
  interleave,
  type Listing,
  type Metric,
  type Scenario,
  type ScenarioResult,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/series.ts'
import type { StatementCount } from '../core/statements.ts'

const metrics: Metric[] = [
  { name: 'statements', label: 'statements/s' },
  { name: 'transactions', label: 'transactions/s' },
  { name: 'cpu', label: 'API + worker CPU (% of a core)' },
  { name: 'apiCpu', label: 'API CPU (% of a core)' },
  { name: 'workerCpu', label: 'worker CPU (% of a core)' },
  { name: 'postgresCpu', label: 'Postgres CPU (% of a core)' },
]

const maxListedStatements = 12
const maxStatementLength = 160

export const idling: Scenario = {
  name: 'S8',
  title: 'Idle API and worker',
  run: (bench) =>
    withContenders<IdleLoad, ScenarioResult>(bench, [idle], async (opened) => {
      const seconds = bench.quick ? 1 : 60
      let last: Listing = listStatements([], seconds)
      const onStatements = (statements: readonly StatementCount[], seconds: number) => {
        last = listStatements(statements, seconds)
      }
      const series = await interleave(bench, opened, metrics, { seconds, onStatements })
      const contender = idle.name
      const figure = (metric: string) => format(medianOf(series, contender, metric))
      const reason = `The API takes ${figure('apiCpu')} % of a core and the worker ${figure('workerCpu')} %. Their statements are listed below.`
      return {
        tables: [{ caption: `An API and a worker without work, for ${seconds} s`, metrics, series }],
        listings: [last],
        goals: [
          atMost(series, {
            contender,
            metric: 'statements',
            maximum: 2,
            unit: '/s',
            measure: 'statements',
            reason,
          }),
          atMost(series, {
            contender,
            metric: 'cpu',
            maximum: 1,
            unit: '%',
            measure: 'CPU of both processes, % of a core',
            reason,
          }),
        ],
        notes: [
          'Statements, with `begin` and `commit`, are counted in the server log. Transactions, committed or rolled back, are counted in `pg_stat_database`. That view may lag by some seconds, and includes transactions of Postgres itself, such as autovacuum.',
        ],
      }
    }),
}

const listStatements = (statements: readonly StatementCount[], seconds: number): Listing => ({
  caption: 'The most frequent statements of the last round',
  head: ['per second', 'application', 'statement'],
  rows: statements.slice(0, maxListedStatements).map(({ application, statement, count }) => {
    const shortened = `${statement.slice(0, maxStatementLength)}${statement.length > maxStatementLength ? '…' : ''}`
    return [format(count / seconds), application, `\`${shortened}\``]
  }),
})
