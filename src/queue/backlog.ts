import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { claimOrder, isClaimable } from './claim.ts'
import { queueJob, queueTable } from './schema.ts'

/** Returns whether at least `maxJobs` jobs of the queue wait. Reads that many index entries at most. */
export async function isBacklogFull({ kysely }: Database, queue: string, maxJobs: number): Promise<boolean> {
  const { rows } = await sql`
    select from ${queueJob} where name = ${queue} and state < 'active' and not blocked
    offset ${maxJobs - 1} limit 1`.execute(kysely)
  return rows.length > 0
}

/** An array expression: which of the operations have a claimable job. Reads the head of each queue, not all of it. */
export const operationsWithDueJobs = (operations: readonly string[]): RawBuilder<string[]> => sql`array(
  select queue.name from unnest(${operations}::text[]) as queue (name)
  cross join lateral (
    select from ${queueJob} where job.name = queue.name and ${isClaimable} order by ${claimOrder} limit 1
  ) as next
)`

export interface BacklogSize {
  operation: string
  /** Due jobs that wait, as pg-boss counts them every 15 seconds. */
  ready: number
  /** For how many seconds the oldest of the next thousand jobs has been due; 0 when none is. */
  oldestAgeSeconds: number
}

/** Reads the backlog of each operation at a bounded cost: no index has the oldest job, so only the next thousand are read. */
export async function readBacklog({ kysely }: Database, operations: readonly string[]): Promise<BacklogSize[]> {
  const { rows } = await sql<BacklogSize>`
    select
      queue.name as operation, queue.ready_count as ready,
      coalesce(greatest(extract(epoch from now() - oldest.start_after), 0), 0)::float8 as "oldestAgeSeconds"
    from ${queueTable}
    left join lateral (
      select min(start_after) as start_after
      from (
        select start_after from ${queueJob}
        where job.name = queue.name and ${isClaimable} order by ${claimOrder} limit 1000
      ) as next
    ) as oldest on true
    where queue.name = any(${operations})`.execute(kysely)
  return rows
}
