import { query, type Server } from './server.ts'
import { followLog } from './server-log.ts'

/** Logs every statement in new sessions of a database. */
export const logStatements = async (server: Server, database: string): Promise<void> =>
  void (await query(server.urlOf('postgres'), `alter database ${database} set log_statement = 'all'`))

/** How many times an application has sent a statement. */
export interface StatementCount {
  application: string
  statement: string
  count: number
}

/** Starts counting the logged statements of a database. The returned function returns the counts, highest first. */
export async function countStatements(server: Server, database: string): Promise<() => Promise<StatementCount[]>> {
  const readLog = await followLog(server)
  return async () => parseStatements(await readLog(), database)
}

function parseStatements(log: string, database: string): StatementCount[] {
  const counts = new Map<string, StatementCount>()
  // In the log, an entry may have several lines. All lines but the first start with a tab.
  for (const line of log.replaceAll(/\n\t\s*/g, ' ').split('\n')) {
    const [, loggedDatabase, application, statement] =
      line.match(/^([^|]*)\|([^|]*)\|LOG: {2}(?:statement|execute [^:]*): (.*)$/) ?? []
    if (loggedDatabase !== database || application === undefined || statement === undefined) continue
    const key = `${application}|${statement}`
    const counted = counts.get(key) ?? { application, statement: statement.trim(), count: 0 }
    counted.count++
    counts.set(key, counted)
  }
  return [...counts.values()].sort((a, b) => b.count - a.count)
}
