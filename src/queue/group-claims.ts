import { sql } from 'kysely'
import type { JobWithMetadata } from 'pg-boss'
import type { Database } from '../db/database.ts'
import { pipeline } from '../db/pipeline.ts'
import { useCustomPlan } from '../db/plan-settings.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { bossOn, type PgBoss, type QueueData } from './boss.ts'
import { type Claim, claimOf } from './claim.ts'

/** Claims due jobs through pg-boss, because pg-boss counts the running jobs of each group. */
export async function claimOfGroups(
  database: Database,
  boss: PgBoss,
  operation: Operation,
  limit: number,
): Promise<Claim[]> {
  const jobs: JobWithMetadata<QueueData>[] = await claimAlone(database, operation, async (trx, isPaused) => {
    if (isPaused) return []
    return boss.fetch<QueueData>(operation.name, {
      batchSize: limit,
      includeMetadata: true,
      groupConcurrency: operation.groupConcurrency as number,
      db: bossOn(trx),
    })
  })
  return jobs.map((job) => claimOf(job, { waitedSeconds: waitedSeconds(job) }))
}

/**
 * Runs one claim of the operation at a time. Otherwise, two claims could count the running jobs of a group at the same
 * time, and both would take the last free place in the group.
 */
export function claimAlone<Result>(
  database: Database,
  { name }: Operation,
  claim: (trx: AnyTransaction, isPaused: boolean) => Promise<Result>,
): Promise<Result> {
  return database.kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    const lock = sql`select pg_advisory_xact_lock(hashtext('accepted.claim'), hashtext(${name}))`
    // A worker with an older definition does not know the limit.
    const readPause = sql<{ is_paused: boolean }>`
      select exists (
        select from accepted.operation o
        where o.name = ${name} and (o.paused_at is not null or o.limit_has_key is not null)
      ) as is_paused`
    const [, { rows }] = await pipeline(trx, (trx) => [lock.execute(trx), readPause.execute(trx), useCustomPlan(trx)])
    return claim(trx, rows[0]?.is_paused === true)
  })
}

// Both times come from the clock of the database, because the clock of this machine may be wrong.
const waitedSeconds = ({ startAfter, startedOn }: Pick<JobWithMetadata, 'startAfter' | 'startedOn'>) =>
  startAfter && startedOn && (startedOn.getTime() - startAfter.getTime()) / 1000
