import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { claimOrder, isClaimable } from './claim.ts'
import { queueJob } from './schema.ts'

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

/**
 * Builds an array expression of the operations that have a claimable job. Reads only the first job of each queue, or the
 * first key of a queue with a limit.
 */
export const operationsWithDueJobs = (operations: readonly string[]): RawBuilder<string[]> => sql`array(
  select queue.name from unnest(${operations}::text[]) as queue (name)
  cross join lateral (
    select from ${queueJob} where job.name = queue.name and ${isClaimable} order by ${claimOrder} limit 1
  ) as next
  where not accepted.is_paused(queue.name) and not accepted.is_limited(queue.name)
  union all
  select queue.name from unnest(${operations}::text[]) as queue (name)
  where accepted.is_limited(queue.name) and not accepted.is_paused(queue.name) and (
    exists (select from accepted.limit_key k where k.operation = queue.name and k.next_at <= now())
    or exists (
      select from accepted.limit_arrival a
      where a.operation = queue.name and (a.due_at <= now() or a.due_at = 'infinity' and a.key is null)
    )
  )
)`
