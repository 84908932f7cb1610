import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { rowLock } from '../db/locks.ts'
import { pipeline } from '../db/pipeline.ts'
import { useGenericPlan } from '../db/plan-settings.ts'
import { isRow } from '../db/row-lookup.ts'
import { limitKeyOf } from '../limit.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { queueJob, queueJobPartition } from './schema.ts'

/** Maximum number of jobs that one transaction assigns keys to. */
const maxJobs = 1_000
/** The key of jobs of which the operation computes none. They start without a limit, and then fail. */
const invalidKey = ''

/**
 * Computes the limit keys of jobs that have none: they were enqueued in SQL, or before their operation had a limit.
 * Workers that do so at the same time assign keys to different jobs.
 *
 * @returns the number of jobs
 */
export function assignLimitKeys({ kysely }: Database, operation: Operation): Promise<number> {
  return kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    const read = sql<{ id: string; job_id: string; payload: unknown; is_known: boolean }>`
      select arrival.id, arrival.job_id, queued.payload, queued.is_known
      from (
        select id, job_id from accepted.limit_arrival
        where operation = ${operation.name} and due_at = 'infinity' and key is null
        order by due_at, id limit ${maxJobs} ${rowLock.skip}
      ) arrival
      left join lateral (
        select job.data -> 'payload' as payload, true as is_known from ${queueJob}
        where job.name = ${operation.name} and job.id = arrival.job_id and job.state <= 'active' limit 1
      ) queued on true
      order by arrival.job_id`
    const [, { rows }] = await pipeline(trx, (trx) => [useGenericPlan(trx), read.execute(trx)])
    const jobs = rows.filter((row) => row.is_known)
    const write = sql`
      update ${queueJobPartition} set singleton_key = keyed.key, policy = 'limited'
      from unnest(
        ${jobs.map((job) => job.job_id)}::uuid[],
        ${jobs.map(({ payload }) => keyOrInvalid(operation, payload))}::text[]
      ) as keyed (id, key)
      where ${isRow([sql`job.name`, sql`job.id`], [sql`${operation.name}::text`, sql`keyed.id`])}
        and job.state <= 'active'`
    const remove = sql`
      delete from accepted.limit_arrival
      where operation = ${operation.name} and due_at = 'infinity' and id = any(${rows.map(({ id }) => id)}::bigint[])`
    await pipeline(trx, (trx) => [write.execute(trx), remove.execute(trx)])
    return rows.length
  })
}

/** Deletes the rows of unused keys. Finds jobs that were enqueued while their operation got its limit. */
export async function maintainLimits({ kysely }: Database): Promise<void> {
  await sql`select accepted.maintain_limits()`.execute(kysely)
}

function keyOrInvalid(operation: Operation, payload: unknown): string {
  try {
    return limitKeyOf(operation, payload) ?? invalidKey
  } catch {
    return invalidKey
  }
}
