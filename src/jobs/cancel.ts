import { sql } from 'kysely'
import { cancelWaiting, type PgBoss } from '../db/boss.ts'
import { currentId, leaveTrace } from '../db/transaction.ts'
import type { AnyTransaction } from '../operation.ts'
import { keepSeconds } from '../operation.ts'
import { type Job, jobColumns } from './job.ts'
import { isFinal } from './state.ts'
import { type EndedJob, endpointsToTell, enqueueDeliveries } from './webhook-delivery.ts'

/** What became of the wish to cancel a job. */
export type Cancellation =
  /** It has ended, now or before, without effects; the workers of `enqueued` are to be woken after the commit. */
  | { kind: 'canceled'; job: Job; now: boolean; enqueued: string[] }
  /** It runs; its handler is told, and it ends when that is over. */
  | { kind: 'requested'; job: Job }
  /** It had succeeded or failed already. */
  | { kind: 'too-late'; job: Job }
  /** It has changed since the caller saw it. */
  | { kind: 'changed'; job: Job }
  | { kind: 'unknown' }

const columns = sql.join(jobColumns.map((name) => sql.ref(`job.${name}`)))

/**
 * Cancels a job within the transaction. One that waits is canceled at once and its handler never runs; of one that runs
 * cancellation is requested. Whoever locks the status first wins: this, or the transaction that settles the job.
 *
 * @param isExpected given the sequence, whether the job is still as the caller saw it
 */
export async function cancelJob(
  boss: PgBoss,
  trx: AnyTransaction,
  { id, principal }: { id: string; principal: string },
  isExpected: (sequence: string) => boolean = () => true,
): Promise<Cancellation> {
  const { rows } = await sql<Job & { transaction_id: string }>`
    select ${columns}, ${currentId} as transaction_id
    from accepted.job where id = ${id} and principal = ${principal} for update`.execute(trx)
  const [job] = rows
  const witness = sql`select from accepted.job where id = ${id} and cancel_requested`
  leaveTrace(trx, { id: job?.transaction_id, witness })
  if (!job) return { kind: 'unknown' }
  if (!isExpected(job.sequence)) return { kind: 'changed', job }
  if (job.state === 'canceled') return { kind: 'canceled', job, now: false, enqueued: [] }
  if (isFinal(job.state)) return { kind: 'too-late', job }
  // One that a worker has just claimed is shown as queued still.
  if (job.state === 'running' || !(await cancelWaiting(trx, job.operation, id))) {
    return { kind: 'requested', job: job.cancel_requested ? job : await request(trx, id) }
  }
  const { endpoints, ...canceled } = await cancel(trx, job)
  const enqueued = await enqueueDeliveries(boss, trx, [{ id, endpoints }])
  return { kind: 'canceled', job: canceled, now: true, enqueued }
}

async function request(trx: AnyTransaction, id: string): Promise<Job> {
  const { rows } = await sql<Job>`
    update accepted.job set cancel_requested = true, sequence = sequence + 1, updated_at = statement_timestamp()
    where id = ${id} returning ${columns}`.execute(trx)
  return rows[0] as Job
}

/** The payload is kept, for a retry. */
async function cancel(trx: AnyTransaction, { id, operation }: Job): Promise<Job & EndedJob> {
  const { rows } = await sql<Job & EndedJob>`
    update accepted.job set
      state = 'canceled', cancel_requested = true, sequence = sequence + 1, updated_at = statement_timestamp(), ended_at = statement_timestamp(),
      expires_at = now() + make_interval(secs => ${keepSeconds}),
      payload = (
        select data -> 'payload' from pgboss.job queue where queue.name = ${operation} and queue.id = ${id}
      )
    where id = ${id} returning ${columns}, ${endpointsToTell}`.execute(trx)
  return rows[0] as Job & EndedJob
}
