import { type BacklogLoad, type BacklogLook, backlog } from '../contenders/backlog.ts'
import { atLeast } from '../core/goal.ts'
import { type Execution, linesOf, nodesOf, pagesOf } from '../core/plans.ts'
import {
  format,
  interleave,
  type Listing,
  type Metric,
  type Outcome,
  type Scenario,
  withContenders,
} from '../core/scenario.ts'
import { query } from '../core/server.ts'
import { median, medianOf } from '../core/stats.ts'
import { indexesOf } from '../core/tables.ts'

const metrics: Metric[] = [
  { name: 'drains', unit: '1/s' },
  { name: 'accepts', unit: '1/s' },
  { name: 'p99', unit: 'ms' },
  { name: 'acceptCpu', unit: 'µs of Postgres a request' },
  { name: 'acceptWal', unit: 'bytes a request' },
]

export const backlogs: Scenario = {
  name: 'S7',
  title: 'Backlog: a million jobs that wait, against ten thousand',
  run(bench) {
    const [large, small] = (bench.quick ? [10_000, 1_000] : [1_000_000, 10_000]).map(backlog) as [
      ReturnType<typeof backlog>,
      ReturnType<typeof backlog>,
    ]
    const jobs = bench.quick ? 1_000 : 10_000
    const load = { connections: 64, seconds: bench.quick ? 1 : 5, jobs, toWarm: jobs / 5 }
    return withContenders<BacklogLoad | BacklogLook, Outcome>(bench, [large, small], async (opened) => {
      const series = await interleave(bench, opened, load)
      const listings: Listing[] = []
      const notes: string[] = []
      const onExecutions = async (executions: readonly Execution[], url: string) => {
        const big = await bigTables(url)
        const statements = statementsOf(executions, big)
        listings.push(listStatements(statements, large.name), await listIndexes(url, statements))
        notes.push(...statements.filter(isSlow).map(describeWorst))
      }
      await opened[0]?.opened.measure({ workSeconds: bench.quick ? 1 : 30, onExecutions })
      const figure = (metric: string) => format(medianOf(series, large.name, metric))
      const why = `with ${large.name} a request takes ${figure('acceptCpu')} µs of a processor in Postgres and ${figure('acceptWal')} bytes of WAL, with ${small.name} ${format(medianOf(series, small.name, 'acceptCpu'))} and ${format(medianOf(series, small.name, 'acceptWal'))}; the statements below are what they are asked`
      const goal = (metric: string, text: string) =>
        atLeast(series, { contender: large.name, metric, than: small.name, least: 0.8, text, why })
      return {
        tables: [
          {
            caption: `Accepting, ${load.connections} connections in a closed loop, nobody works; then ${jobs.toLocaleString('en-US')} jobs drained, the first ${load.toWarm.toLocaleString('en-US')} not counted`,
            metrics,
            series,
          },
        ],
        listings,
        goals: [
          goal('accepts', `accepts ≥ 0.8 × with ${large.name} as with ${small.name}`),
          goal('drains', `drain ≥ 0.8 × with ${large.name} as with ${small.name}`),
        ],
        notes: [
          'What is accepted is taken away again before the drain; those who wait are written anew in each round, vacuumed and analyzed. The worker is a new one each time.',
          ...notes,
        ],
      }
    })
  },
}

/** How a statement was executed, over all times that it was. */
interface Statement {
  application: string
  text: string
  executions: readonly Execution[]
  worst: Execution
  isOnBig: boolean
  /** Big tables that were read from one end to the other. */
  scanned: readonly string[]
  indexes: readonly string[]
}

/** Statements are shown with so many characters. */
const longest = 110
/** The plan of what took longer is shown, in milliseconds. */
const slow = 50

const isSlow = ({ worst, scanned }: Statement) => worst.took > slow || scanned.length > 0

/** Of an insert of several rows, the first one: with each number of rows its text is another. */
const withoutRows = (statement: string) =>
  statement.replaceAll(/(\(\$\d+(?:, \$\d+)*\))(?:, \(\$\d+(?:, \$\d+)*\))+/g, '$1, …')

function statementsOf(executions: readonly Execution[], big: ReadonlySet<string>): Statement[] {
  const groups = Map.groupBy(executions, ({ application, statement }) => `${application}|${withoutRows(statement)}`)
  return [...groups.values()]
    .map((group): Statement => {
      const nodes = group.flatMap(({ plan }) => nodesOf(plan)).filter((node) => node['Actual Loops'] !== 0)
      const scans = nodes.filter((node) => node['Node Type'] === 'Seq Scan' && big.has(node['Relation Name'] ?? ''))
      const [first] = group as [Execution]
      return {
        application: first.application,
        text: withoutRows(first.statement),
        executions: group,
        worst: group.reduce((worst, one) => (one.took > worst.took ? one : worst)),
        isOnBig: nodes.some((node) => big.has(node['Relation Name'] ?? '')),
        scanned: [...new Set(scans.map((node) => node['Relation Name'] as string))],
        indexes: [...new Set(nodes.flatMap((node) => node['Index Name'] ?? []))].toSorted(),
      }
    })
    .toSorted((a, b) => b.worst.took - a.worst.took)
}

const listStatements = (statements: readonly Statement[], when: string): Listing => ({
  caption: `The statements that an API and a worker sent while ${when}, of those that touch a big table or take a millisecond, as the server says (auto_explain, without the time of each row), the slowest first: the median and the worst time, and the 8 kB pages that the worst one touched and read`,
  head: ['statement', 'of', 'times', 'median (ms)', 'worst (ms)', 'pages', 'read', 'scans all of', 'indexes'],
  rows: statements
    .filter(({ isOnBig, worst }) => isOnBig || worst.took >= 1)
    .map(({ application, text, executions, worst, scanned, indexes }) => {
      const { touched, read } = pagesOf(worst.plan)
      return [
        `\`${shortened(text)}\``,
        application,
        String(executions.length),
        format(median(executions.map(({ took }) => took))),
        format(worst.took),
        format(touched),
        format(read),
        scanned.join(', '),
        indexes.join(', '),
      ]
    }),
})

const shortened = (text: string) => `${text.slice(0, longest)}${text.length > longest ? '…' : ''}`

const describeWorst = ({ application, text, worst }: Statement): string =>
  `The plan of \`${shortened(text)}\` (${application}, ${format(worst.took)} ms):\n\n\`\`\`text\n${linesOf(worst.plan).join('\n')}\n\`\`\``

/** What a scan from one end to the other would not do. */
async function bigTables(url: string): Promise<Set<string>> {
  const rows = await query<{ name: string }>(
    url,
    `select relname as name from pg_class where relkind = 'r' and reltuples > 2000
    and relnamespace::regnamespace::text in ('accepted', 'pgboss', 'public')`,
  )
  return new Set(rows.map(({ name }) => name))
}

async function listIndexes(url: string, statements: readonly Statement[]): Promise<Listing> {
  const indexes = await indexesOf(url)
  const usersOf = (name: string) => {
    const isIt = (index: string) => index.replace(/^job_(\d{8}|default)_/, 'job_') === name
    return statements.filter(({ indexes }) => indexes.some(isIt)).length
  }
  return {
    caption:
      'Every index of the status tables and of the queue: how often it was used in all, by how many of the statements above, and what it is for. What nobody asked for here, such as a redrive or a webhook, uses none',
    head: ['index', 'of', 'kB', 'scans', 'statements', 'for'],
    rows: indexes.map(({ table, name, scans, bytes, purpose }) => {
      const isBoss = purpose === '' && table.startsWith('pgboss.')
      return [name, table, format(bytes / 1024), format(scans), String(usersOf(name)), isBoss ? 'pg-boss' : purpose]
    }),
  }
}
