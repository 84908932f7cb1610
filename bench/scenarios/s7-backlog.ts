import { type BacklogInspection, type BacklogLoad, backlog } from '../contenders/backlog.ts'
import { format } from '../core/format.ts'
import { atLeast } from '../core/goal.ts'
import { type Execution, formatPlan, nodesOf, pagesOf } from '../core/plans.ts'
import {
  interleave,
  type Listing,
  type Metric,
  type Scenario,
  type ScenarioResult,
  withContenders,
} from '../core/scenario.ts'
import { medianOf } from '../core/series.ts'
import { query } from '../core/server.ts'
import { median } from '../core/stats.ts'
import { indexesOf } from '../core/tables.ts'

const metrics: Metric[] = [
  { name: 'drains', label: 'drained jobs/s' },
  { name: 'accepts', label: 'accepted requests/s' },
  { name: 'p99', label: 'accept p99 (ms)' },
  { name: 'acceptCpu', label: 'Postgres CPU (µs/request)' },
  { name: 'acceptWal', label: 'WAL bytes/request' },
]

export const backlogs: Scenario = {
  name: 'S7',
  title: 'Large backlog',
  run(bench) {
    const [large, small] = (bench.quick ? [10_000, 1_000] : [1_000_000, 10_000]).map(backlog) as [
      ReturnType<typeof backlog>,
      ReturnType<typeof backlog>,
    ]
    const jobs = bench.quick ? 1_000 : 10_000
    const load = { connections: 64, seconds: bench.quick ? 1 : 5, jobs, warmUpJobs: jobs / 5 }
    return withContenders<BacklogLoad | BacklogInspection, ScenarioResult>(bench, [large, small], async (opened) => {
      const series = await interleave(bench, opened, metrics, load)
      const listings: Listing[] = []
      const notes: string[] = []
      const onExecutions = async (executions: readonly Execution[], url: string) => {
        const big = await bigTables(url)
        const statements = statementsOf(executions, big)
        listings.push(listStatements(statements, large.name), await listIndexes(url, statements))
        notes.push(...statements.filter(isRemarkable).map(describeWorst))
      }
      await opened[0]?.opened.measure({ workSeconds: bench.quick ? 1 : 30, onExecutions })
      const cost = (name: string) =>
        `${format(medianOf(series, name, 'acceptCpu'))} µs of CPU in Postgres and ${format(medianOf(series, name, 'acceptWal'))} bytes of WAL`
      const reason = `With ${large.name} a request takes ${cost(large.name)}; with ${small.name} ${cost(small.name)}. The statements are listed below.`
      const goal = (metric: string, unit: string) =>
        atLeast(series, {
          contender: large.name,
          metric,
          other: small.name,
          minimum: 0.8,
          measure: `${unit}, ${large.name}`,
          reason,
        })
      return {
        tables: [
          {
            caption: `Accepts without a worker, closed loop, ${load.connections} connections; then a drain of ${jobs.toLocaleString('en-US')} jobs, of which the first ${load.warmUpJobs.toLocaleString('en-US')} are not counted`,
            metrics,
            series,
          },
        ],
        listings,
        goals: [goal('accepts', 'accepts/s'), goal('drains', 'drained jobs/s')],
        notes: [
          'Each round inserts the queued jobs again, vacuums and analyzes the tables, and starts a new worker. The jobs that were accepted in the round are deleted before the drain.',
          ...notes,
        ],
      }
    })
  },
}

/** All executions of a statement. */
interface Statement {
  application: string
  text: string
  executions: readonly Execution[]
  worst: Execution
  usesBigTable: boolean
  /** Big tables that the statement reads with a sequential scan. */
  scanned: readonly string[]
  indexes: readonly string[]
}

const maxStatementLength = 110
/** If a statement took longer than this, the report shows its plan. */
const maxUnexplainedMs = 50

const isRemarkable = ({ worst, scanned }: Statement) => worst.durationMs > maxUnexplainedMs || scanned.length > 0

/** Shortens an insert to its first row, so that inserts of one row and of many rows count as the same statement. */
const withOneRow = (statement: string) =>
  statement.replaceAll(/(\(\$\d+(?:, \$\d+)*\))(?:, \(\$\d+(?:, \$\d+)*\))+/g, '$1, …')

function statementsOf(executions: readonly Execution[], big: ReadonlySet<string>): Statement[] {
  const groups = Map.groupBy(executions, ({ application, statement }) => `${application}|${withOneRow(statement)}`)
  return [...groups.values()]
    .map((group): Statement => {
      const nodes = group.flatMap(({ plan }) => nodesOf(plan)).filter((node) => node['Actual Loops'] !== 0)
      const scans = nodes.filter((node) => node['Node Type'] === 'Seq Scan' && big.has(node['Relation Name'] ?? ''))
      const [first] = group as [Execution]
      return {
        application: first.application,
        text: withOneRow(first.statement),
        executions: group,
        worst: group.reduce((worst, one) => (one.durationMs > worst.durationMs ? one : worst)),
        usesBigTable: nodes.some((node) => big.has(node['Relation Name'] ?? '')),
        scanned: [...new Set(scans.map((node) => node['Relation Name'] as string))],
        indexes: [...new Set(nodes.flatMap((node) => node['Index Name'] ?? []))].toSorted(),
      }
    })
    .toSorted((a, b) => b.worst.durationMs - a.worst.durationMs)
}

const listStatements = (statements: readonly Statement[], backlog: string): Listing => ({
  caption: `Statements of the API and the worker with ${backlog}, slowest first, as auto_explain logs them without timing each row. The list has the statements that use a big table or took a millisecond or more. The pages (8 kB) are those of the slowest execution`,
  head: [
    'statement',
    'application',
    'executions',
    'median (ms)',
    'slowest (ms)',
    'pages touched',
    'pages read',
    'sequential scan of',
    'indexes',
  ],
  rows: statements
    .filter(({ usesBigTable, worst }) => usesBigTable || worst.durationMs >= 1)
    .map(({ application, text, executions, worst, scanned, indexes }) => {
      const { touched, read } = pagesOf(worst.plan)
      return [
        `\`${shortened(text)}\``,
        application,
        String(executions.length),
        format(median(executions.map(({ durationMs }) => durationMs))),
        format(worst.durationMs),
        format(touched),
        format(read),
        scanned.join(', '),
        indexes.join(', '),
      ]
    }),
})

const shortened = (text: string) => `${text.slice(0, maxStatementLength)}${text.length > maxStatementLength ? '…' : ''}`

const describeWorst = ({ application, text, worst }: Statement): string =>
  `Plan of \`${shortened(text)}\` (${application}, ${format(worst.durationMs)} ms):\n\n\`\`\`text\n${formatPlan(worst.plan).join('\n')}\n\`\`\``

/** Returns the tables that are too big for a sequential scan. */
async function bigTables(url: string): Promise<Set<string>> {
  const rows = await query<{ name: string }>(
    url,
    `select relname as name from pg_class where relkind = 'r' and reltuples > 2000
    and relnamespace::regnamespace::text in ('accepted', 'accepted_queue', 'public')`,
  )
  return new Set(rows.map(({ name }) => name))
}

async function listIndexes(url: string, statements: readonly Statement[]): Promise<Listing> {
  const indexes = await indexesOf(url)
  const usersOf = (name: string) => {
    const isSame = (index: string) => index.replace(/^job_(\d{8}|default)_/, 'job_') === name
    return statements.filter(({ indexes }) => indexes.some(isSame)).length
  }
  return {
    caption:
      'All indexes of the status tables and of the queue: how often each was scanned, and how many of the statements above use it. The scenario does not use every feature: redrives and webhooks, for example, are missing',
    head: ['index', 'table', 'kB', 'scans', 'statements', 'purpose'],
    rows: indexes.map(({ table, name, scans, bytes, purpose }) => {
      const isPgBoss = purpose === '' && table.startsWith('accepted_queue.')
      return [name, table, format(bytes / 1024), format(scans), String(usersOf(name)), isPgBoss ? 'pg-boss' : purpose]
    }),
  }
}
