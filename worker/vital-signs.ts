import { sql } from 'kysely'
import type { Database } from '../src/db/database.ts'
import type { Claim } from './claim.ts'

/** How often a worker says that it lives: below a third of the shortest heartbeat there is, 10 s. In milliseconds. */
export const touchEvery = 3_000

/**
 * Says that we are alive, of all claims in one statement. A row that somebody has locked is left out: it must not silence
 * the others.
 *
 * @param held by the name of the queue
 */
export async function touch(
  { kysely }: Database,
  held: readonly { name: string; claims: readonly Claim[] }[],
): Promise<void> {
  const rows = held.flatMap(({ name, claims }) => claims.map(({ queued }) => ({ name, ...queued })))
  if (rows.length === 0) return
  await sql`
    update pgboss.job set heartbeat_on = now()
    from (
      select job.name, job.id
      from unnest(
        ${rows.map(({ name }) => name)}::text[],
        ${rows.map(({ id }) => id)}::uuid[],
        ${rows.map(({ retryCount }) => retryCount)}::integer[]
      ) as held (name, id, retry_count)
      join pgboss.job using (name, id, retry_count)
      where job.state = 'active'
      order by job.name, job.id for update of job skip locked
    ) as ours
    where job.name = ours.name and job.id = ours.id`.execute(kysely)
}

/**
 * Operations with a job that is due. The order is that of the index the claims use: the head of each queue is looked at,
 * and not the whole of it.
 */
export async function findDue({ kysely }: Database, names: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select queue.name from unnest(${names}::text[]) as queue (name)
    cross join lateral (
      select from pgboss.job
      where job.name = queue.name and job.state < 'active' and not job.blocked and job.start_after <= now()
      order by job.priority desc, job.created_on
      limit 1
    ) as next`.execute(kysely)
  return rows.map(({ name }) => name)
}
