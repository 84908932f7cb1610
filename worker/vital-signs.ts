import { sql } from 'kysely'
import { type Database, runPlannedOnce } from '../src/db/database.ts'
import { areHeld, type Claim } from './claim.ts'

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
  const claims = held.flatMap(({ claims }) => claims)
  if (claims.length === 0) return
  const areTheirs = sql`job.name = any(${held.map(({ name }) => name)}::text[])`
  const statement = sql`
    update pgboss.job set heartbeat_on = now()
    where ${areTheirs} and job.id = any(array(
      select id from pgboss.job where ${areTheirs} and ${areHeld(claims)} order by id for update skip locked
    ))`
  await runPlannedOnce(database, statement)
}
