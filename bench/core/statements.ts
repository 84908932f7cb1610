import { open, stat } from 'node:fs/promises'
import { query, type Server } from './server.ts'

/** Has the statements of a database logged; of sessions that begin from now on. */
export const logStatements = async (server: Server, database: string): Promise<void> =>
  void (await query(server.urlOf('postgres'), `alter database ${database} set log_statement = 'all'`))

/** A statement, and how often an application has sent it. */
export interface Counted {
  application: string
  statement: string
  count: number
}

/** Begins to count the statements of a database that are logged; the answer is what was sent until it is called. */
export async function countStatements(server: Server, database: string): Promise<() => Promise<Counted[]>> {
  const { size: from } = await stat(server.logFile)
  return async () => {
    const file = await open(server.logFile)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc((await file.stat()).size - from), { position: from })
      return count(buffer.toString('utf8', 0, bytesRead), database)
    } finally {
      await file.close()
    }
  }
}

function count(log: string, database: string): Counted[] {
  const counted = new Map<string, Counted>()
  // What goes over several lines has a tab before each further one.
  for (const line of log.replaceAll(/\n\t\s*/g, ' ').split('\n')) {
    const [, of, application, statement] =
      line.match(/^([^|]*)\|([^|]*)\|LOG: {2}(?:statement|execute [^:]*): (.*)$/) ?? []
    if (of !== database || application === undefined || statement === undefined) continue
    const key = `${application}|${statement}`
    const known = counted.get(key) ?? { application, statement: statement.trim(), count: 0 }
    known.count++
    counted.set(key, known)
  }
  return [...counted.values()].sort((a, b) => b.count - a.count)
}
