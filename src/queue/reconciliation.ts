import { type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import { queueJob } from './schema.ts'

/**
 * How the queue row of a pending job disagrees with its status: it has ended (`failed`, `completed`, `cancelled`), is
 * `missing`, is `waiting` although the job is shown as running, or is `blocked` without a reason.
 */
export type Discrepancy = 'failed' | 'completed' | 'cancelled' | 'missing' | 'waiting' | 'blocked'

/**
 * Joins `job`, a row of `accepted.job`, with its queue row as `queued`. Each row is looked up by itself: a plan for a
 * join of both tables may read the whole queue.
 */
export const joinQueueRow = sql`
  left join lateral (
    select state, retry_count, blocked, pending_dependencies, data from ${queueJob} row
    where row.name = job.operation and row.id = job.id limit 1
  ) queued on true`

/** An expression after {@link joinQueueRow}: the discrepancy, or null. */
export const discrepancy: RawBuilder<Discrepancy | null> = sql`
  case
    when queued.state is null then 'missing'
    when queued.state in ('failed', 'completed', 'cancelled') then queued.state::text
    when queued.state < 'active' and job.status = 'running' and queued.retry_count >= job.attempt - 1 then 'waiting'
    when queued.blocked and queued.pending_dependencies = 0
      and not exists (select from accepted.quarantine where job_id = job.id) then 'blocked'
  end`

/** An expression after {@link joinQueueRow}: the payload, or null. */
export const queuedPayload = sql`queued.data -> 'payload'`

/**
 * A subselect: pending jobs whose queue row was canceled or failed since a time, or at an unknown time, because the row
 * was changed by hand. Columns: id, completed_on.
 */
export const endedInQueueSince = (since: RawBuilder<unknown>, isPending: RawBuilder<boolean>, limit: number) => sql`(
  select job.id, row.completed_on from ${queueJob} row
  join accepted.job on job.id = row.id
  where row.state in ('cancelled', 'failed') and (row.completed_on >= ${since} or row.completed_on is null)
    and ${isPending}
  order by row.completed_on nulls first limit ${limit}
)`

/** Returns the ids of the jobs that have a queue row under another id, because pg-boss has recreated the row. */
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
    update ${queueJob} set blocked = false
    from unnest(${jobs.map(({ id }) => id)}::uuid[], ${jobs.map(({ operation }) => operation)}::text[]) as ours (id, name)
    where job.id = ours.id and job.name = ours.name and job.pending_dependencies = 0`.execute(trx)
}
