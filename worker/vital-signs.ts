import { sql } from 'kysely'
import { type Database, runPlannedOnce } from '../src/db/database.ts'
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
  database: Database,
  held: readonly { name: string; claims: readonly Claim[] }[],
): Promise<void> {
  const rows = held.flatMap(({ name, claims }) => claims.map(({ queued }) => ({ name, ...queued })))
  if (rows.length === 0) return
  const names = rows.map(({ name }) => name)
  const ids = rows.map(({ id }) => id)
  const those = sql`job.name = any(${names}::text[]) and job.id = any(${ids}::uuid[])`
  const statement = sql`
    update pgboss.job set heartbeat_on = now()
    from (
      select job.name, job.id
      from unnest(
        ${names}::text[],
        ${ids}::uuid[],
        ${rows.map(({ retryCount }) => retryCount)}::integer[]
      ) as held (name, id, retry_count)
      join pgboss.job using (name, id, retry_count)
      where ${those} and job.state = 'active'
      order by job.name, job.id for update of job skip locked
    ) as ours
    where ${those} and job.name = ours.name and job.id = ours.id`
  await runPlannedOnce(database, statement)
}
