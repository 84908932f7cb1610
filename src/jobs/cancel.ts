import { sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import type { AnyTransaction } from '../operation.ts'
import { keepSeconds } from '../operation.ts'
import type { PgBoss } from '../queue/boss.ts'
import { cancelQueued, payloadInQueue } from '../queue/cancel-queued.ts'
import { type Job, jobColumns } from './job.ts'
import { isFinal } from './status.ts'
import { type EndedJob, enqueueDeliveries, matchingEndpoints } from './webhook-delivery.ts'

/** The outcome of a cancel request. */
export type CancelOutcome =
  /** The job is canceled and had no effects. After the commit, notify the workers of the operations in `enqueued`. */
  | { kind: 'canceled'; job: Job; enqueued: string[] }
  /**
   * The job is running. After the commit, notify its worker on the channel `cancel`. The worker aborts the handler's
   * signal, and then cancels the job.
   */
  | { kind: 'requested'; job: Job }
  /** The job has already succeeded or failed. */
  | { kind: 'too-late'; job: Job }
  /** The job has changed since the caller read it. */
  | { kind: 'changed'; job: Job }
  | { kind: 'unknown' }

const columns = sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))

/**
 * Cancels a job within the transaction. A queued job is canceled immediately, and its handler never runs. A running job
 * only gets a cancel request. Canceling and settling both lock the job's row. The transaction that locks the row first
 * decides the outcome.
 *
 * @param isExpected returns whether the caller accepts this sequence of the job (If-Match). Default: accepts every
 *   sequence.
 */
export async function cancelJob(
  boss: PgBoss,
  trx: AnyTransaction,
  { id, principal }: { id: string; principal: string },
  isExpected: (sequence: string) => boolean = () => true,
): Promise<CancelOutcome> {
  const { rows } = await sql<Job & { transaction_id: string }>`
    select ${columns}, ${currentTransactionId} as transaction_id
    from accepted.job where id = ${id} and principal = ${principal} for update`.execute(trx)
  const [job] = rows
  const commitProof = sql`select from accepted.job where id = ${id} and cancel_requested`
  registerCommitCheck(trx, { transactionId: job?.transaction_id, commitProof })
  if (!job) return { kind: 'unknown' }
  if (!isExpected(job.sequence)) return { kind: 'changed', job }
  if (job.status === 'canceled') return { kind: 'canceled', job, enqueued: [] }
  if (isFinal(job.status)) return { kind: 'too-late', job }
  // The status is still queued when a worker has just claimed the job. Then `cancelQueued` returns false.
  if (job.status === 'running' || !(await cancelQueued(trx, job.operation, id))) {
    return { kind: 'requested', job: job.cancel_requested ? job : await requestCancel(trx, id) }
  }
  const { endpoints, ...canceled } = await cancel(trx, job)
  const enqueued = await enqueueDeliveries(boss, trx, [{ id, endpoints }])
  return { kind: 'canceled', job: canceled, enqueued }
}

async function requestCancel(trx: AnyTransaction, id: string): Promise<Job> {
  const { rows } = await sql<Job>`
    update accepted.job set cancel_requested = true, sequence = sequence + 1, updated_at = statement_timestamp()
    where id = ${id} returning ${columns}`.execute(trx)
  return rows[0] as Job
}

/** Writes the status, and copies the payload from the queue row so that the job can be retried. */
async function cancel(trx: AnyTransaction, { id, operation }: Job): Promise<Job & EndedJob> {
  const { rows } = await sql<Job & EndedJob>`
    update accepted.job set
      status = 'canceled', cancel_requested = true, sequence = sequence + 1, updated_at = statement_timestamp(), ended_at = statement_timestamp(),
      expires_at = now() + make_interval(secs => ${keepSeconds}),
      payload = ${payloadInQueue(operation, id)}
    where id = ${id} returning ${columns}, ${matchingEndpoints}`.execute(trx)
  return rows[0] as Job & EndedJob
}
