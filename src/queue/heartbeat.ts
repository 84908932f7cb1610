import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { rowLock } from '../db/locks.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import { type Claim, isHeldIn } from './claim.ts'
import { queueJob } from './schema.ts'

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
  const claims = held.flatMap(({ claims }) => claims)
  if (claims.length === 0) return
  const isInQueues = sql`job.name = any(${held.map(({ name }) => name)}::text[])`
  const statement = sql`
    update ${queueJob} set heartbeat_on = now()
    where ${isInQueues} and job.id = any(array(
      select id from ${queueJob} where ${isInQueues} and ${isHeldIn(claims)} order by id ${rowLock.skip}
    ))`
  await runWithGenericPlan(database.kysely, statement)
}
