import { sql } from 'kysely'
import type { Database } from '../db/database.ts'

/** Returns whether at least `maxJobs` jobs wait in the queue. Reads at most that many index entries. */
export async function isBacklogFull({ kysely }: Database, queue: string, maxJobs: number): Promise<boolean> {
  const statement = sql<{ is_full: boolean }>`select accepted.is_backlog_full(${queue}, ${maxJobs}::integer) as is_full`
  return (await statement.execute(kysely)).rows[0]?.is_full === true
}

/** Counts the jobs of a principal that wait in the queue, up to `maxJobs`. Reads at most that many, per priority. */
export async function countBacklog(
  { kysely }: Database,
  queue: string,
  principal: string,
  maxJobs: number,
): Promise<number> {
  const statement = sql<{ waiting: number }>`
    select accepted.count_backlog(${queue}, ${principal}, ${maxJobs}::integer) as waiting`
  return (await statement.execute(kysely)).rows[0]?.waiting ?? 0
}
