import { sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import { channels } from '../db/notifier.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import type { AnyTransaction } from '../operation.ts'
import type { TraceContext } from '../primitives/trace-context.ts'
import { addDependencies, enqueueUnread } from './enqueue.ts'
import { type Job, jobAsJson, jobFromJson } from './job.ts'
import { assertRunAt, insertProof, type NewJob } from './new-job.ts'
import { noSeals, type Seals } from './seals.ts'

/** A job to enqueue as a child of a batch. */
export type NewChild = Omit<NewJob, 'principal' | 'parent'>

/** A batch to enqueue. Its jobs have its trace context. */
export interface NewBatch extends TraceContext {
  /** UUIDv7. */
  id: string
  /** The owner of the batch and of its children. */
  principal: string
  /** At least one. */
  children: readonly NewChild[]
  /** The job to enqueue when the batch ends, whatever its end is. Default for its id: a new one. */
  onEnd?: (Pick<NewJob, 'operation' | 'payload' | 'resource' | 'runAt'> & { id?: string }) | undefined
  /** Whether the batch succeeds although children fail or are canceled. Default: false. */
  allowFailures?: boolean | undefined
  webhookEndpointId?: string | undefined
  /** The id of the job of which the batch is a child. */
  parent?: string | undefined
}

/** Maximum number of jobs in a batch. */
export const maxBatchItems = 10_000
/** Maximum number of jobs that one statement inserts. */
const maxInsertedTogether = 1_000

/**
 * Inserts the job of a batch and its children within the transaction, whose commit notifies the workers.
 *
 * @param seals required for operations that seal members
 */
export async function insertBatch(givenTrx: AnyTransaction, batch: NewBatch, seals: Seals = noSeals): Promise<Job> {
  const trx = givenTrx.withoutPlugins()
  const { id, children } = batch
  await insertBatchUnread(givenTrx, batch, seals)
  await notifyWorkers(trx, children)
  const statement = sql<{ job: string; transaction_id: string }>`
    select ${jobAsJson} as job, ${currentTransactionId} as transaction_id from accepted.job where id = ${id}`
  const { rows } = await runWithGenericPlan(trx, statement)
  registerCommitCheck(givenTrx, { transactionId: rows[0]?.transaction_id, commitProof: insertProof(id) })
  return jobFromJson(rows[0]?.job as string)
}

/** Inserts a batch like {@link insertBatch}, without reading it and without notifications. */
export async function insertBatchUnread(givenTrx: AnyTransaction, batch: NewBatch, seals: Seals): Promise<void> {
  const trx = givenTrx.withoutPlugins()
  const { id, principal, children, onEnd, allowFailures = false, parent, traceparent, tracestate } = batch
  const { webhookEndpointId = null } = batch
  assertRunAt(onEnd?.runAt)
  const next = onEnd ? JSON.stringify(toFollowing(onEnd, principal, seals)) : null
  for (let first = 0; first < children.length; first += maxInsertedTogether) {
    const some = children.slice(first, first + maxInsertedTogether)
    await enqueueUnread(
      trx,
      some.map((child) => ({ ...child, principal, parent: id, traceparent, tracestate })),
      seals,
    )
  }
  await addDependencies(trx, children)
  // Children that wait for a failed job have been canceled. The batch must not end before all its children exist.
  await sql`
    select accepted.insert_batch(${id}, ${principal}, ${children.length}::integer, ${allowFailures}, ${next}::jsonb,
      null, ${traceparent ?? null}, ${tracestate ?? null}, ${webhookEndpointId}::uuid, ${parent ?? null}::uuid)::text`.execute(
    trx,
  )
}

const toFollowing = (
  { operation, payload, id, resource, runAt }: NonNullable<NewBatch['onEnd']>,
  principal: string,
  seals: Seals,
) => ({
  operation: operation.name,
  payload: seals.seal('payload', { operation, principal }, payload) ?? null,
  id,
  resource,
  run_at: runAt,
  group_id: operation.group?.(payload),
})

/** Notifies the workers when the transaction commits. A caller that has the job of the batch cannot do so later. */
async function notifyWorkers(trx: AnyTransaction, children: readonly NewChild[]): Promise<void> {
  const names = [...new Set(children.map(({ operation }) => operation.name))]
  await sql`select pg_notify(${channels.work}, name)::text from unnest(${names}::text[]) as due (name)`.execute(trx)
}
