import { type RawBuilder, sql } from 'kysely'
import type { BatchOutcome } from '../db/tables.ts'
import { limitKeyOf } from '../limit.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import type { TraceContext } from '../primitives/trace-context.ts'
import type { Job } from './job.ts'
import type { Seals } from './seals.ts'

/** A job to enqueue. Its trace context is that of its sender: the attempts of the job become children of that span. */
export interface NewJob extends TraceContext {
  /** UUIDv7. */
  id: string
  operation: Operation
  payload: unknown
  principal: string
  /** The key by which the worker deduplicates the jobs of an operation and a principal. */
  idempotencyKey?: string | undefined
  resource?: string | undefined
  /** The earliest start. */
  runAt?: Date | undefined
  /** Default: the priority of the operation. */
  priority?: number | undefined
  /** The id of the job that this job retries. */
  retryOf?: string | undefined
  /** Number of further requests that share the job. Default: 0. */
  coalesced?: number | undefined
  /** The only webhook endpoint to notify of the outcome. Default: all matching endpoints. */
  webhookEndpointId?: string | undefined
  /** The id of the job of which this job is a child. */
  parent?: string | undefined
  /** The batch whose end enqueued this job, if it is a retry of such a job. */
  batch?: BatchOutcome | null | undefined
  /** The ids of jobs that must end before this job starts. */
  after?: readonly string[] | undefined
  onFailure?: 'cancel' | 'run' | undefined
}

/** A time outside these years cannot be written as ISO 8601 once the keep time is added. */
const [minRunAt, maxRunAt] = [new Date('0001-01-01T00:00:00Z'), new Date('9900-01-01T00:00:00Z')]

/** @throws TypeError when `runAt` is not a Date between the years 1 and 9900 */
export function assertRunAt(runAt: Date | undefined): void {
  if (runAt === undefined || (runAt >= minRunAt && runAt <= maxRunAt)) return
  throw new TypeError(`runAt must be a Date between the years 1 and 9900, not ${runAt}`)
}

/** A statement that returns a row if the transaction that inserted a job has committed. */
export const insertProof = (id: string | undefined): RawBuilder<unknown> =>
  sql`select from accepted.job where id = ${id}`

/**
 * Returns a new job as it will be stored.
 *
 * @param createdAt the `now()` of the transaction
 */
export function toInserted(job: NewJob, createdAt: Date): Job {
  const { id, operation, principal, resource = null, retryOf = null, parent = null, runAt, coalesced = 0 } = job
  const due = runAt && runAt > createdAt ? runAt : createdAt
  return {
    ...{ id, operation: operation.name, status: 'queued', principal, resource, percent: null, message: null },
    ...{ attempt: 0, max_attempts: operation.retry.limit + 1, sequence: '1', result: null, error: null, coalesced },
    ...{ cancel_requested: false, retry_of: retryOf, parent, children: null, waiting_for: null },
    ...{ created_at: createdAt, started_at: null, updated_at: createdAt, ended_at: null },
    expires_at: new Date(due.getTime() + operation.keepSeconds * 1000),
    ...{ attempt_started_at: null, progress_at: null, progress_base: null },
  }
}

/** Prepares the statement that inserts the status rows of new jobs, and the entries for their queues. */
export function prepareInsert(givenTrx: AnyTransaction, jobs: readonly NewJob[], seals: Seals) {
  // A plugin of the app's own Kysely instance may rename columns or parse values.
  const trx = givenTrx.withoutPlugins()
  // JSON, because the setting `array_nulls` of the app's connection decides whether an array can contain a null.
  for (const { runAt } of jobs) assertRunAt(runAt)
  const entries = jobs.map((job) => ({
    ...job,
    payload: seals.seal('payload', job, job.payload),
    groupId: job.operation.group?.(job.payload),
    limitKey: limitKeyOf(job.operation, job.payload),
  }))
  const rows = JSON.stringify(entries.map(toRow))
  const statement = sql`
    insert into accepted.job
      (id, operation, principal, idempotency_key, resource, group_id, max_attempts, coalesced, retry_of, traceparent,
      tracestate, webhook_endpoint_id, parent, batch, payload, run_at, expires_at)
    select
      id, operation, principal, idempotency_key, resource, group_id, max_attempts, coalesced, retry_of, traceparent,
      tracestate, webhook_endpoint_id, parent, batch, payload, run_at,
      greatest(run_at, now()) + make_interval(secs => keep_seconds)
    from json_to_recordset(${rows}::json) as new
      (id uuid, operation text, principal text, idempotency_key text, resource text, group_id text,
      max_attempts integer, coalesced integer, retry_of uuid, traceparent text, tracestate text,
      webhook_endpoint_id uuid, parent uuid, batch jsonb, payload jsonb, run_at timestamptz, keep_seconds integer)`
  return { trx, statement, entries }
}

const toRow = (job: NewJob & { groupId: string | undefined }) => ({
  id: job.id,
  operation: job.operation.name,
  principal: job.principal,
  idempotency_key: job.idempotencyKey,
  resource: job.resource,
  group_id: job.groupId,
  max_attempts: job.operation.retry.limit + 1,
  coalesced: job.coalesced ?? 0,
  retry_of: job.retryOf,
  traceparent: job.traceparent,
  tracestate: job.tracestate,
  webhook_endpoint_id: job.webhookEndpointId,
  parent: job.parent,
  batch: job.batch,
  // abandon needs the payload, even if the queue loses it.
  payload: job.operation.abandon && job.payload,
  run_at: job.runAt,
  keep_seconds: job.operation.keepSeconds,
})
