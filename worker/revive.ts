import { sql } from 'kysely'
import { enqueue } from '../src/jobs/enqueue.ts'
import { newRetry, type RetryableJob, retryableColumns } from '../src/jobs/retry.ts'
import type { AnyTransaction } from '../src/operation.ts'
import { uuid7 } from '../src/uuid.ts'
import type { Claim } from './claim.ts'
import type { Lane } from './lane.ts'

/**
 * A failed job is claimed when somebody has put its row back into the queue, with pg-boss's own means for example. Failed
 * is final: what runs is a new job, a retry like any other.
 *
 * @param claims of jobs that have ended, or have no record
 * @returns the operations whose workers to wake after the commit
 */
export async function revive(lane: Lane, trx: AnyTransaction, claims: readonly Claim[]): Promise<string[]> {
  if (claims.length === 0) return []
  const ids = claims.map(({ jobId }) => jobId)
  const { rows } = await sql<RetryableJob>`
    select ${retryableColumns} from accepted.job
    where id = any(${ids}::uuid[]) and operation = ${lane.operation.name} and state = 'failed'`.execute(trx)
  const failed = new Map(rows.map((row) => [row.id, row]))
  const retries = claims.flatMap(({ jobId, payload }) => {
    const job = failed.get(jobId)
    return job ? [newRetry({ ...job, payload }, lane.operation, uuid7())] : []
  })
  lane.log.warn({ jobs: ids, retries: retries.map(({ id }) => id) }, 'Claimed jobs that had ended')
  if (retries.length === 0) return []
  await enqueue(lane.boss, trx, retries)
  return [lane.operation.name]
}
