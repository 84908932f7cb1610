import { open, stat } from 'node:fs/promises'
import { query, type Server } from './server.ts'

/** How the server has executed a statement that it was sent, or that a function has. */
export interface Execution {
  application: string
  statement: string
  /** In milliseconds. */
  took: number
  plan: PlanNode
}

/** As EXPLAIN (FORMAT JSON) shows it. */
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
  // A clock that is read for each row is what would be measured.
  'auto_explain.log_timing': 'off',
  'auto_explain.log_nested_statements': 'on',
  'auto_explain.log_parameter_max_length': '0',
  'auto_explain.log_format': 'json',
}

/** Has sessions of a database that begin from now on log the plan of each statement; the answer stops that, and is what was logged. */
export async function startExplaining(server: Server, database: string): Promise<() => Promise<Execution[]>> {
  for (const [name, value] of Object.entries(settings))
    await query(server.urlOf('postgres'), `alter database ${database} set ${name} = '${value}'`)
  const { size: from } = await stat(server.logFile)
  return async () => {
    await query(server.urlOf('postgres'), `alter database ${database} reset all`)
    const file = await open(server.logFile)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc((await file.stat()).size - from), { position: from })
      return executionsIn(buffer.toString('utf8', 0, bytesRead), database)
    } finally {
      await file.close()
    }
  }
}

function executionsIn(log: string, database: string): Execution[] {
  const executions: Execution[] = []
  // What goes over several lines has a tab before each further one.
  for (const entry of log.split(/\n(?!\t)/)) {
    const [, of, application = '', took, text] =
      entry.match(/^([^|]*)\|([^|]*)\|LOG: {2}duration: ([\d.]+) ms {2}plan:\n([\s\S]*)$/) ?? []
    if (of !== database || text === undefined) continue
    const { 'Query Text': statement, Plan: plan } = JSON.parse(text.replaceAll('\n\t', '\n')) as {
      'Query Text': string
      Plan: PlanNode
    }
    executions.push({ application, statement: statement.replaceAll(/\s+/g, ' ').trim(), took: Number(took), plan })
  }
  return executions
}

/** A node and all below it. */
export function nodesOf(plan: PlanNode): PlanNode[] {
  return [plan, ...(plan.Plans ?? []).flatMap(nodesOf)]
}

/** The pages a plan has looked at, of 8 kB; of those, it had to read so many into memory. */
export const pagesOf = (plan: PlanNode) => ({
  touched: (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0),
  read: plan['Shared Read Blocks'] ?? 0,
})

/** A plan in lines, those below indented. */
export function linesOf(plan: PlanNode, depth = 0): string[] {
  const on = [plan['Index Name'], plan['Relation Name']].filter(Boolean).join(' on ')
  const rows = `${plan['Actual Rows'] ?? 0} rows × ${plan['Actual Loops'] ?? 0}`
  const removed = plan['Rows Removed by Filter'] ? `, ${plan['Rows Removed by Filter']} filtered out` : ''
  return [
    `${'  '.repeat(depth)}${plan['Node Type']}${on && ` ${on}`} (${rows}${removed}, ${pagesOf(plan).touched} pages)`,
    ...(plan.Plans ?? []).flatMap((one) => linesOf(one, depth + 1)),
  ]
}
