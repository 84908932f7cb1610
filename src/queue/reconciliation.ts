import { type RawBuilder, sql } from 'kysely'
import { isRow } from '../db/row-lookup.ts'
import type { AnyTransaction } from '../operation.ts'
import { queueJob, queueJobPartition } from './schema.ts'

/**
 * How the queue row of a pending job disagrees with the job's status:
 * - `failed`, `completed`, `cancelled`: the queue row has ended.
 * - `missing`: there is no queue row.
 * - `waiting`: the queue row waits, although the job's status is `running`.
 * - `blocked`: the queue row is blocked, although the job neither is in quarantine nor waits for another job.
 */
export type Discrepancy = 'failed' | 'completed' | 'cancelled' | 'missing' | 'waiting' | 'blocked'

/**
 * Joins `job`, a row of `accepted.job`, with its queue row, which gets the alias `queued`. The lateral join looks up
 * each queue row separately. A plain join of the two tables might read the whole queue.
 */
export const joinQueueRow = sql`
  left join lateral (
    select state, retry_count, blocked, pending_dependencies, data from ${queueJob} row
    where row.name = job.operation and row.id = job.id limit 1
  ) queued on true`

/** An expression for a query with {@link joinQueueRow}: the discrepancy, or null. */
export const discrepancy: RawBuilder<Discrepancy | null> = sql`
  case
    when queued.state is null then 'missing'
    when queued.state in ('failed', 'completed', 'cancelled') then queued.state::text
    when queued.state < 'active' and job.status = 'running' and queued.retry_count >= job.attempt - 1 then 'waiting'
    when queued.blocked and queued.pending_dependencies = 0
      and not exists (select from accepted.quarantine where job_id = job.id)
      and not exists (select from accepted.dependency where job_id = job.id) then 'blocked'
  end`

/**
 * An expression for a query with {@link joinQueueRow}: the payload as JSON text, or SQL null when the queue has no
 * payload. The text of a payload that is null is 'null', which the driver would otherwise return as null too.
 */
export const queuedPayload = sql`(queued.data -> 'payload')::text`

/**
 * A subselect: pending jobs whose queue row was canceled or failed at the time `since` or later. Also includes queue
 * rows without an end time, which were changed by hand. Columns: id, ended_at.
 */
export const endedInQueueSince = (since: RawBuilder<unknown>, isPending: RawBuilder<boolean>, limit: number) => {
  // The lateral join looks up each job separately. A plain join of the two tables might read the whole status table.
  const endedWhen = (condition: RawBuilder<unknown>) => sql`(
    select job.id, row.completed_on as ended_at from ${queueJob} row
    cross join lateral (select id, status from accepted.job where job.id = row.id limit 1) job
    where row.state in ('cancelled', 'failed') and ${condition} and ${isPending}
    order by row.completed_on limit ${limit}
  )`
  return sql`(
    select id, ended_at
    from (${endedWhen(sql`row.completed_on is null`)} union all ${endedWhen(sql`row.completed_on >= ${since}`)}) as ended
    order by ended_at nulls first limit ${limit}
  )`
}

/**
 * Returns the ids of the jobs whose queue row pg-boss has re-created under another id. No index finds such rows, so this
 * reads all waiting and active rows of the queues. It runs only when rows are missing from the queue.
 */
export async function findRecreated(
  trx: AnyTransaction,
  jobs: readonly { id: string; operation: string }[],
): Promise<Set<string>> {
  if (jobs.length === 0) return new Set()
  const { rows } = await sql<{ job: string }>`
    select data ->> 'job' as job from ${queueJob}
    where name = any(${[...new Set(jobs.map(({ operation }) => operation))]}) and state <= 'active'
      and data ->> 'job' = any(${jobs.map(({ id }) => id)})`.execute(trx)
  return new Set(rows.map(({ job }) => job))
}

/** Makes blocked queue rows claimable again. */
export async function unblock(trx: AnyTransaction, jobs: readonly { id: string; operation: string }[]): Promise<void> {
  if (jobs.length === 0) return
  await sql`
    update ${queueJobPartition} set blocked = false
    from unnest(${jobs.map(({ id }) => id)}::uuid[], ${jobs.map(({ operation }) => operation)}::text[]) as ours (id, name)
    where ${isRow([sql`job.name`, sql`job.id`], [sql`ours.name`, sql`ours.id`])} and job.pending_dependencies = 0`.execute(
    trx,
  )
}
