import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import { type Claim, isHeldIn } from './claim.ts'
import { queueJob } from './schema.ts'

/** How often a worker sends heartbeats, in milliseconds: below a third of the shortest allowed timeout, 10 seconds. */
export const heartbeatIntervalMs = 3_000

/**
 * Sends the heartbeats of all claims in one statement. A row that another transaction has locked is left out, because
 * waiting for it would delay the heartbeats of all others.
 *
 * @param held the name of each queue and its claims
 */
export async function sendHeartbeats(
  database: Database,
  held: readonly { name: string; claims: readonly Claim[] }[],
): Promise<void> {
  const claims = held.flatMap(({ claims }) => claims)
  if (claims.length === 0) return
  const isInQueues = sql`job.name = any(${held.map(({ name }) => name)}::text[])`
  const statement = sql`
    update ${queueJob} set heartbeat_on = now()
    where ${isInQueues} and job.id = any(array(
      select id from ${queueJob} where ${isInQueues} and ${isHeldIn(claims)} order by id for update skip locked
    ))`
  await runWithGenericPlan(database, statement)
}
