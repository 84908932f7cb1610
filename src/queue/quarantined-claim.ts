import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import type { Operation } from '../operation.ts'
import { type Claim, type ClaimedRow, claimedColumns, claimOf, isDue } from './claim.ts'
import { claimAlone } from './group-claims.ts'
import { queueJob } from './schema.ts'

/**
 * Claims a quarantined job by its queue row. Returns undefined when another worker holds the job, or when the job's
 * group or its limit is full.
 */
export async function claimQuarantinedJob(
  database: Database,
  operation: Operation,
  queueId: string,
): Promise<Claim | undefined> {
  const maxOfGroup = operation.groupConcurrency ?? null
  // pg-boss cannot claim one specific job, so this statement sets the columns that pg-boss would set.
  const { rows } = await claimAlone(database, operation, async (trx) => {
    const admit = sql<{ is_admitted: boolean }>`
      select accepted.admit_limited(${operation.name}, ${queueId}) as is_admitted`
    if (!(await admit.execute(trx)).rows[0]?.is_admitted) return { rows: [] }
    return sql<ClaimedRow>`
      update ${queueJob} set
        state = 'active', blocked = false, started_on = now(), heartbeat_on = now(),
        retry_count = case when started_on is null then retry_count else retry_count + 1 end
      where name = ${operation.name} and id = ${queueId} and blocked and ${isDue}
        and not accepted.is_paused(name)
        and (${maxOfGroup}::integer is null or group_id is null or ${maxOfGroup} > (
          select count(*) from ${queueJob} other
          where other.name = ${operation.name} and other.group_id = job.group_id and other.state = 'active'
        ))
      returning ${claimedColumns}`.execute(trx)
  })
  return rows[0] && claimOf(rows[0], { isQuarantined: true })
}
