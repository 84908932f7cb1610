import { sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import type { AnyTransaction } from '../operation.ts'
import { type Job, jobColumns } from './job.ts'
import { isFinal } from './status.ts'

/** The outcome of a cancel request. */
export type CancelOutcome =
  /** The job is canceled and had no effects. */
  | { kind: 'canceled'; job: Job }
  /**
   * The job is running: its worker aborts the handler's signal, and then cancels the job. Or the job is queued and its
   * operation has `abandon`: then endings.ts cancels the job.
   */
  | { kind: 'requested'; job: Job }
  /** The job has already succeeded or failed. */
  | { kind: 'too-late'; job: Job }
  /** The job has changed since the caller read it. */
  | { kind: 'changed'; job: Job }
  | { kind: 'unknown' }

const columns = sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))

/**
 * Cancels a job within the transaction, with the function `accepted.cancel`. A queued job is canceled immediately, and
 * its handler never runs. Three kinds of jobs only get a cancel request: a running job, a job whose operation has
 * `abandon`, and a job that waits for its children. Canceling and settling lock the job's row, so the transaction that
 * locks the row first decides the outcome.
 *
 * @param job.principal the owner of the job; undefined for any owner
 * @param isExpected returns whether the caller accepts this sequence of the job (If-Match). Default: accepts every
 *   sequence.
 */
export async function cancelJob(
  trx: AnyTransaction,
  { id, principal }: { id: string; principal: string | undefined },
  isExpected: (sequence: string) => boolean = () => true,
): Promise<CancelOutcome> {
  const { rows } = await sql<Job & { transaction_id: string }>`
    select ${columns}, ${currentTransactionId} as transaction_id
    from accepted.lock_own_job(${id}, ${principal ?? null}) as job`.execute(trx)
  const [job] = rows
  const commitProof = sql`select from accepted.job where id = ${id} and cancel_requested`
  registerCommitCheck(trx, { transactionId: job?.transaction_id, commitProof })
  if (!job) return { kind: 'unknown' }
  if (!isExpected(job.sequence)) return { kind: 'changed', job }
  if (job.status === 'canceled') return { kind: 'canceled', job }
  if (isFinal(job.status)) return { kind: 'too-late', job }
  await sql`select accepted.cancel(${id})`.execute(trx)
  const { rows: changed } = await sql<Job>`select ${columns} from accepted.job where id = ${id}`.execute(trx)
  const after = changed[0] as Job
  return { kind: after.status === 'canceled' ? 'canceled' : 'requested', job: after }
}
