import { sql } from 'kysely'
import type { AnyTransaction } from '../../src/operation.ts'
import type { BegunJob } from '../../src/queue/begun-job.ts'
import { type Claim, heldAttempts } from '../../src/queue/claim.ts'
import type { StatusWriter } from './job-status.ts'
import { byId } from './pending-jobs.ts'

/**
 * Sets jobs to running, and returns them. Leaves out jobs that another transaction has locked, jobs whose claim is lost,
 * and jobs whose cancellation was requested.
 */
export async function writeRunning(
  trx: AnyTransaction,
  { operation, workerId }: StatusWriter,
  claims: readonly Claim[],
): Promise<Map<string, BegunJob>> {
  const { rows } = await sql<BegunJob>`
    select * from accepted.begin_claimed(
      ${operation.name}, ${heldAttempts(operation.name, claims)}, ${workerId})`.execute(trx)
  return byId(rows)
}
