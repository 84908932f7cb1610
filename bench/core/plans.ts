import { query, type Server } from './server.ts'
import { followLog } from './server-log.ts'

/** One execution of a statement that a client has sent or that a function has run. */
export interface Execution {
  application: string
  statement: string
  durationMs: number
  plan: PlanNode
}

/** A node of EXPLAIN (FORMAT JSON). */
export interface PlanNode {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Actual Rows'?: number
  'Actual Loops'?: number
  'Rows Removed by Filter'?: number
  'Shared Hit Blocks'?: number
  'Shared Read Blocks'?: number
  Plans?: PlanNode[]
}

const settings = {
  session_preload_libraries: 'auto_explain',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_buffers': 'on',
  // With timing on, Postgres reads the clock for each row, which would take most of the duration.
  'auto_explain.log_timing': 'off',
  'auto_explain.log_nested_statements': 'on',
  'auto_explain.log_parameter_max_length': '0',
  'auto_explain.log_format': 'json',
}

/**
 * Makes new sessions of a database log the plans of their statements.
 *
 * @returns a function that stops the logging and returns the logged executions
 */
export async function startExplaining(server: Server, database: string): Promise<() => Promise<Execution[]>> {
  for (const [name, value] of Object.entries(settings))
    await query(server.urlOf('postgres'), `alter database ${database} set ${name} = '${value}'`)
  const readLog = await followLog(server)
  return async () => {
    await query(server.urlOf('postgres'), `alter database ${database} reset all`)
    return parseExecutions(await readLog(), database)
  }
}

function parseExecutions(log: string, database: string): Execution[] {
  const executions: Execution[] = []
  // In the log, an entry may have several lines. All lines but the first start with a tab.
  for (const entry of log.split(/\n(?!\t)/)) {
    const [, loggedDatabase, application = '', duration, text] =
      entry.match(/^([^|]*)\|([^|]*)\|LOG: {2}duration: ([\d.]+) ms {2}plan:\n([\s\S]*)$/) ?? []
    if (loggedDatabase !== database || text === undefined) continue
    const { 'Query Text': statement, Plan: plan } = JSON.parse(text.replaceAll('\n\t', '\n')) as {
      'Query Text': string
      Plan: PlanNode
    }
    const oneLine = statement.replaceAll(/\s+/g, ' ').trim()
    executions.push({ application, statement: oneLine, durationMs: Number(duration), plan })
  }
  return executions
}

/** Returns a node and all nodes below it. */
export function nodesOf(plan: PlanNode): PlanNode[] {
  return [plan, ...(plan.Plans ?? []).flatMap(nodesOf)]
}

/** Returns how many pages (8 kB) a plan touched, and how many of these pages were not in shared buffers yet. */
export const pagesOf = (plan: PlanNode) => ({
  touched: (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0),
  read: plan['Shared Read Blocks'] ?? 0,
})

/** Formats a plan as indented lines. */
export function formatPlan(plan: PlanNode, depth = 0): string[] {
  const on = [plan['Index Name'], plan['Relation Name']].filter(Boolean).join(' on ')
  const rows = `${plan['Actual Rows'] ?? 0} rows × ${plan['Actual Loops'] ?? 0}`
  const removed = plan['Rows Removed by Filter'] ? `, ${plan['Rows Removed by Filter']} filtered out` : ''
  return [
    `${'  '.repeat(depth)}${plan['Node Type']}${on && ` ${on}`} (${rows}${removed}, ${pagesOf(plan).touched} pages)`,
    ...(plan.Plans ?? []).flatMap((one) => formatPlan(one, depth + 1)),
  ]
}
