import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { rowLock } from '../db/locks.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import { isRow } from '../db/row-lookup.ts'
import { type Claim, isHeldBy } from './claim.ts'
import { queueJobPartition } from './schema.ts'

/**
 * How often a worker sends heartbeats, in milliseconds. Less than a third of 10 s, the shortest allowed
 * `heartbeatSeconds`.
 */
export const heartbeatIntervalMs = 3_000

/**
 * Sends the heartbeats of all claims in one statement. Skips rows that another transaction has locked, because waiting
 * for one of them would delay the heartbeats of all other rows.
 *
 * @param held the claims of each queue, with the name of the queue
 */
export async function sendHeartbeats(
  database: Database,
  held: readonly { name: string; claims: readonly Claim[] }[],
): Promise<void> {
  const claims = held.flatMap(({ name, claims }) => claims.map(({ queued }) => ({ name, ...queued })))
  if (claims.length === 0) return
  const statement = sql`
    with held as materialized (
      select claim.name, claim.id
      from unnest(
        ${claims.map(({ name }) => name)}::text[],
        ${claims.map(({ id }) => id)}::uuid[],
        ${claims.map(({ retryCount }) => retryCount)}::integer[]
      ) as claim (name, id, retry_count)
      join ${queueJobPartition} on ${isHeldBy(sql`claim.name`)}
      order by claim.id ${rowLock.skip}
    )
    update ${queueJobPartition} set heartbeat_on = now()
    from held where ${isRow([sql`job.name`, sql`job.id`], [sql`held.name`, sql`held.id`])}`
  await runWithGenericPlan(database.kysely, statement)
}
