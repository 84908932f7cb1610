import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { ProblemError } from '../errors.ts'
import type { Operation } from '../operation.ts'

/** How long a count serves, in milliseconds: a bound against floods need not be exact. */
const freshFor = 1_000

const counts = new WeakMap<Database, Map<string, { at: number; full: Promise<boolean> }>>()

/**
 * Lets a request through unless as many jobs of its operation are waiting as `maxBacklog` says.
 *
 * @throws ProblemError backlog-full
 */
export async function assertBacklog(database: Database, operation: Operation): Promise<void> {
  if (operation.maxBacklog === undefined) return
  const ofDatabase = counts.get(database) ?? new Map()
  counts.set(database, ofDatabase)
  let count = ofDatabase.get(operation.name)
  if (!count || performance.now() - count.at > freshFor) {
    count = { at: performance.now(), full: isFull(database, operation.name, operation.maxBacklog) }
    // A count that failed must not fail later requests too.
    count.full.catch(() => ofDatabase.delete(operation.name))
    ofDatabase.set(operation.name, count)
  }
  if (await count.full) throw new ProblemError('backlog-full', undefined, { retryAfterSeconds: 5 })
}

async function isFull({ kysely }: Database, name: string, maxBacklog: number): Promise<boolean> {
  const { rows } = await sql`
    select from pgboss.job where name = ${name} and state < 'active' and not blocked
    offset ${maxBacklog - 1} limit 1`.execute(kysely)
  return rows.length > 0
}
