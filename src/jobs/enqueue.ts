import { type RawBuilder, sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import { pipeline } from '../db/pipeline.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import type { BatchOutcome } from '../db/tables.ts'
import { limitKeyOf } from '../limit.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import type { TraceContext } from '../primitives/trace-context.ts'
import { enqueueAll, type PgBoss } from '../queue/boss.ts'
import { insertMany } from '../queue/insert-many.ts'
import { idIn, type Job, jobAsJson, jobFromJson } from './job.ts'
import { noSeals, type Seals } from './seals.ts'

/** Options of a job that is enqueued from code. */
export interface EnqueueOptions {
  /**
   * Idempotency key. Among jobs with the same operation, principal and key, only the job that succeeds first has an
   * effect. The other jobs succeed with the result of that job. Default: no deduplication.
   */
  key?: string
  /**
   * The owner of the job: the only principal that sees the job over HTTP. Default: `anonymous`. A follow-up job has the
   * principal of the job that enqueues it.
   */
  principal?: string
  /** The earliest start. Default: now. */
  runAt?: Date
  /** A job with a higher priority starts first. Default: the operation's priority. */
  priority?: number
  /**
   * Path of the resource that the job creates, for example `/todos/1`. On success, clients are redirected to this path.
   */
  resource?: string
  /**
   * The ids of jobs that must end before this job starts; at most 100. This job is `queued` until then. Jobs of any
   * operation and principal are allowed, also batches and jobs that have ended. Default: none.
   */
  after?: readonly string[]
  /**
   * What happens if one of the jobs in `after` fails or is canceled. `cancel`: this job is canceled at once. `run`: this
   * job starts as if that job had succeeded. Default: `cancel`.
   */
  onFailure?: 'cancel' | 'run'
}

/** A time outside these years cannot be written as ISO 8601 once the keep time is added. */
const [minRunAt, maxRunAt] = [new Date('0001-01-01T00:00:00Z'), new Date('9900-01-01T00:00:00Z')]

/** @throws TypeError when `runAt` is not a Date between the years 1 and 9900 */
export function assertRunAt(runAt: Date | undefined): void {
  if (runAt === undefined || (runAt >= minRunAt && runAt <= maxRunAt)) return
  throw new TypeError(`runAt must be a Date between the years 1 and 9900, not ${runAt}`)
}

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

/**
 * Inserts the status rows and the queue rows of new jobs within the transaction. Sends one statement for all status
 * rows, and one statement per operation for the queue rows.
 *
 * @param seals required for operations that seal members
 * @returns the jobs, in the given order
 * @throws TypeError when `runAt` is not a Date between the years 1 and 9900, or when a job has no valid limit key
 */
export async function enqueue(
  boss: PgBoss,
  givenTrx: AnyTransaction,
  jobs: readonly NewJob[],
  seals: Seals = noSeals,
): Promise<Job[]> {
  const { trx, statement, entries } = prepareInsert(givenTrx, jobs, seals)
  // Returning the rows would take as long as inserting them. Everything in them is known, except the times.
  const inserting = sql<{ created_ms: string; updated_ms: string; transaction_id: string }>`
    with made as (${statement} returning 1)
    select ${milliseconds(sql`now()`)} as created_ms, ${milliseconds(sql`statement_timestamp()`)} as updated_ms,
      ${currentTransactionId} as transaction_id
    from (select count(*) from made) as counted`
  const [{ rows }] = await pipeline(trx, (trx) => [inserting.execute(trx), enqueueAll(boss, trx, entries)])
  await addDependencies(trx, jobs)
  const [row] = rows
  registerCommitCheck(givenTrx, {
    transactionId: row?.transaction_id,
    commitProof: sql`select from accepted.job where id = ${jobs[0]?.id}`,
  })
  const times = { createdAt: new Date(Number(row?.created_ms)), updatedAt: new Date(Number(row?.updated_ms)) }
  // A job that waits for others has changed since it was inserted.
  const waiting = jobs.filter(({ after = [] }) => after.length > 0).map(({ id }) => id)
  const changed = waiting.length > 0 ? await readJobs(trx, waiting) : []
  const byId = new Map(changed.map(({ job }) => jobFromJson(job)).map((job) => [job.id, job]))
  return jobs.map((job) => byId.get(job.id) ?? toInserted(job, times))
}

/** As text, because the type parsers of the app may show numbers and dates differently. */
const milliseconds = (time: RawBuilder<unknown>) => sql<string>`floor(extract(epoch from ${time}) * 1000)::text`

/** Makes the job that a statement has inserted. */
function toInserted(job: NewJob, { createdAt, updatedAt }: { createdAt: Date; updatedAt: Date }): Job {
  const { id, operation, principal, resource = null, retryOf = null, parent = null, runAt, coalesced = 0 } = job
  const due = runAt && runAt > createdAt ? runAt : createdAt
  return {
    ...{ id, operation: operation.name, status: 'queued', principal, resource, percent: null, message: null },
    ...{ attempt: 0, max_attempts: operation.retry.limit + 1, sequence: '1', result: null, error: null, coalesced },
    ...{ cancel_requested: false, retry_of: retryOf, parent, children: null, waiting_for: null },
    ...{ created_at: createdAt, started_at: null, updated_at: updatedAt, ended_at: null },
    expires_at: new Date(due.getTime() + operation.keepSeconds * 1000),
    ...{ attempt_started_at: null, progress_at: null, progress_base: null },
  }
}

/** Inserts jobs like {@link enqueue}, without reading them: that would take half of the time. */
export async function enqueueUnread(
  givenTrx: AnyTransaction,
  jobs: readonly NewJob[],
  seals: Seals = noSeals,
): Promise<void> {
  const { trx, statement, entries } = prepareInsert(givenTrx, jobs, seals)
  await pipeline(trx, (trx) => [statement.execute(trx), insertMany(trx, entries)])
}

async function readJobs(trx: AnyTransaction, ids: readonly string[]): Promise<{ job: string }[]> {
  const statement = sql<{ job: string }>`select ${jobAsJson} as job from accepted.job where ${idIn(ids)}`
  return (await runWithGenericPlan(trx, statement)).rows
}

/** Makes those of the new jobs wait that have `after`. */
export async function addDependencies(
  trx: AnyTransaction,
  jobs: readonly Pick<NewJob, 'id' | 'after' | 'onFailure'>[],
): Promise<void> {
  for (const { id, after = [], onFailure = 'cancel' } of jobs) {
    if (after.length === 0) continue
    // Prisma reads no column of the type void.
    await sql`select accepted.add_dependencies(${id}, ${after}::uuid[], ${onFailure})::text`.execute(trx)
  }
}

function prepareInsert(givenTrx: AnyTransaction, jobs: readonly NewJob[], seals: Seals) {
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
      tracestate, webhook_endpoint_id, parent, batch, payload, run_at, updated_at, expires_at)
    select
      id, operation, principal, idempotency_key, resource, group_id, max_attempts, coalesced, retry_of, traceparent,
      tracestate, webhook_endpoint_id, parent, batch, payload, run_at, statement_timestamp(),
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
