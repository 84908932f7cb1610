import { sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import type { PgBoss } from '../queue/boss.ts'
import { enqueue, type NewJob } from './enqueue.ts'
import { type Job, jobAsJson, jobFromJson } from './job.ts'

/** A job to enqueue as a child of a batch. */
export type NewChild = Omit<NewJob, 'principal' | 'parent'>

/** A batch to enqueue. */
export interface NewBatch {
  /** UUIDv7. */
  id: string
  /** The owner of the batch and of its children. */
  principal: string
  /** At least one. */
  children: readonly NewChild[]
  /** The job to enqueue when the batch ends, whatever its end is. */
  onEnd?: { operation: Operation; payload: unknown } | undefined
  /** Whether the batch succeeds although children fail or are canceled. Default: false. */
  allowFailures?: boolean | undefined
  /** W3C traceparent. */
  traceparent?: string | undefined
  webhookEndpointId?: string | undefined
}

/** Maximum number of jobs in a batch. */
export const maxBatchItems = 10_000
/** Maximum number of jobs that one statement inserts. */
const maxInsertedTogether = 1_000

/** Inserts the job of a batch and its children within the transaction. */
export async function insertBatch(boss: PgBoss, givenTrx: AnyTransaction, batch: NewBatch): Promise<Job> {
  const trx = givenTrx.withoutPlugins()
  const { id, principal, children, onEnd, allowFailures = false, traceparent = null, webhookEndpointId = null } = batch
  const next = onEnd ? JSON.stringify({ operation: onEnd.operation.name, payload: onEnd.payload ?? null }) : null
  for (let first = 0; first < children.length; first += maxInsertedTogether) {
    const some = children.slice(first, first + maxInsertedTogether)
    await enqueue(
      boss,
      trx,
      some.map((child) => ({ ...child, principal, parent: id, traceparent: traceparent ?? undefined })),
    )
  }
  // Children that wait for a failed job have been canceled. The batch must not end before all its children exist.
  await sql`
    select accepted.insert_batch(${id}, ${principal}, ${children.length}::integer, ${allowFailures}, ${next}::jsonb,
      null, ${traceparent}, ${webhookEndpointId}::uuid)`.execute(trx)
  const { rows } = await sql<{ job: string; transaction_id: string }>`
    select ${jobAsJson} as job, ${currentTransactionId} as transaction_id
    from accepted.job where id = ${id}`.execute(trx)
  const commitProof = sql`select from accepted.job where id = ${id}`
  registerCommitCheck(givenTrx, { transactionId: rows[0]?.transaction_id, commitProof })
  return jobFromJson(rows[0]?.job as string)
}
