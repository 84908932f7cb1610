import { sql } from 'kysely'
import { enqueueAll, type PgBoss } from '../db/boss.ts'
import { together } from '../db/database.ts'
import { currentId, leaveTrace } from '../db/transaction.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { keepSeconds } from '../operation.ts'
import { type Job, jobColumns } from './job.ts'

/** What may be said of a job that is enqueued without a request of its own. */
export interface EnqueueOptions {
  /** The worker de-duplicates by it, per operation and principal. */
  key?: string
  /** Whose job it is. */
  principal?: string
  /** Not before then. */
  runAt?: Date
  /** Instead of the operation's; higher goes first. */
  priority?: number
  /** Path of what the job makes. */
  resource?: string
}

/** A job about to be. */
export interface NewJob {
  /** UUIDv7. */
  id: string
  operation: Operation
  payload: unknown
  principal: string
  /** The worker de-duplicates by it, per operation and principal. */
  idempotencyKey?: string | undefined
  resource?: string | undefined
  /** Not before then. */
  runAt?: Date | undefined
  /** Instead of the operation's. */
  priority?: number | undefined
  retryOf?: string | undefined
  /** W3C traceparent. */
  trace?: string | undefined
  /** The one webhook endpoint to tell the end to; else all that match. */
  webhookEndpointId?: string | undefined
}

/**
 * Writes the status rows and the queue's rows of new jobs within the transaction; answers the jobs in the same order.
 * In a constant number of statements, and one more for each further operation.
 */
export async function enqueue(boss: PgBoss, trx: AnyTransaction, jobs: readonly NewJob[]): Promise<Job[]> {
  const column = <Value>(value: (job: NewJob) => Value) => jobs.map(value)
  const inserting = sql<Job & { transaction_id: string }>`
    insert into accepted.job
      (id, operation, principal, idempotency_key, resource, max_attempts, retry_of, trace, webhook_endpoint_id,
      updated_at, expires_at)
    select
      id, operation, principal, idempotency_key, resource, max_attempts, retry_of, trace, webhook_endpoint_id,
      statement_timestamp(), greatest(run_at, now()) + make_interval(secs => ${keepSeconds})
    from unnest(
      ${column((job) => job.id)}::uuid[],
      ${column((job) => job.operation.name)}::text[],
      ${column((job) => job.principal)}::text[],
      ${column((job) => job.idempotencyKey ?? null)}::text[],
      ${column((job) => job.resource ?? null)}::text[],
      ${column((job) => job.operation.retry.limit + 1)}::integer[],
      ${column((job) => job.retryOf ?? null)}::uuid[],
      ${column((job) => job.trace ?? null)}::text[],
      ${column((job) => job.webhookEndpointId ?? null)}::uuid[],
      ${column((job) => job.runAt ?? null)}::timestamptz[]
    ) as new
      (id, operation, principal, idempotency_key, resource, max_attempts, retry_of, trace, webhook_endpoint_id, run_at)
    returning ${sql.join(jobColumns.map((name) => sql.ref(name)))}, ${currentId} as transaction_id`
  const [{ rows }] = await together(trx, (trx) => [inserting.execute(trx), enqueueAll(boss, trx, jobs)])
  leaveTrace(trx, { id: rows[0]?.transaction_id, witness: sql`select from accepted.job where id = ${rows[0]?.id}` })
  const byId = new Map(rows.map((row) => [row.id, row]))
  return jobs.map((job) => byId.get(job.id) as Job)
}
