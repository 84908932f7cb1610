import { sql } from 'kysely'
import type { JobErrorColumn } from '../../src/db/tables.ts'
import { abandonJobs } from '../../src/jobs/abandon.ts'
import { idIn } from '../../src/jobs/job.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import type { OperationWorker } from './operation-worker.ts'

/** A locked job that will not succeed. */
export interface DecidedEnd {
  claim: Claim
  status: 'failed' | 'canceled'
  /** Set when the status is `failed`. */
  error?: JobErrorColumn
}

/** Calls the operation's `abandon` for locked jobs, within the transaction that ends them. */
export async function abandonClaimed(
  trx: AnyTransaction,
  { operation, seals }: Pick<OperationWorker, 'operation' | 'seals'>,
  ends: readonly DecidedEnd[],
): Promise<void> {
  if (!operation.abandon || ends.length === 0) return
  const { rows } = await sql<{ id: string; principal: string; resource: string | null }>`
    select id, principal, resource from accepted.job where ${idIn(ends.map(({ claim }) => claim.jobId))}`.execute(trx)
  const byId = new Map(rows.map((row) => [row.id, row]))
  const jobs = ends.flatMap(({ claim, status, error = null }) => {
    const row = byId.get(claim.jobId)
    return row ? [{ ...row, payload: claim.payload, status, error }] : []
  })
  await abandonJobs(trx, operation, jobs, seals)
}

/**
 * Decides the ends of locked jobs whose operation has `abandon`. The jobs end later, in the transaction of their
 * `abandon`. Call this before the queue rows of the jobs are deleted.
 *
 * @param failure why `abandon` has just failed, if it has
 */
export async function decideEnds(
  trx: AnyTransaction,
  ends: readonly DecidedEnd[],
  failure: string | null = null,
): Promise<void> {
  if (ends.length === 0) return
  const decided = ends.map(({ claim, status, error }) => ({ id: claim.jobId, status, error }))
  await sql`select accepted.decide_ends(${JSON.stringify(decided)}::jsonb, ${failure})`.execute(trx)
}
