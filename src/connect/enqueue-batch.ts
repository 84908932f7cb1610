import { forceTwoPhase } from '../db/citus.ts'
import { asTransaction, type OwnTransaction } from '../db/transaction-on.ts'
import { insertBatch, maxBatchItems } from '../jobs/enqueue-batch.ts'
import type { Job } from '../jobs/job.ts'
import { traceSend } from '../jobs/spans.ts'
import { batchName, type Operation, type PayloadFor } from '../operation.ts'
import { assertPrincipal } from '../primitives/principal.ts'
import { uuid7 } from '../primitives/uuid.ts'
import { assertPayload } from '../validation.ts'
import type { Core } from './core.ts'
import { assertRegistered } from './enqueue.ts'

/** A job of a batch. */
export interface BatchItem<O extends Operation = Operation> {
  operation: O
  payload: PayloadFor<O>
  /**
   * Idempotency key. Among jobs with the same operation, principal and key, only the job that succeeds first has an
   * effect. Default: no deduplication.
   */
  key?: string
}

/** A batch to enqueue: jobs that belong together. */
export interface Batch<
  Operations extends readonly Operation[] = readonly Operation[],
  Next extends Operation = Operation,
> {
  /** 1 to 10,000 jobs. */
  items: { [Index in keyof Operations]: BatchItem<Operations[Index]> }
  /**
   * The job to enqueue when the batch ends, whatever its end is. It is not a part of the batch. Its handler gets the
   * outcome of the batch as `job.batch`.
   */
  onEnd?: Pick<BatchItem<Next>, 'operation' | 'payload'>
  /** Whether the batch succeeds although jobs fail or are canceled. Default: false. */
  allowFailures?: boolean
  /** The owner of the batch and of its jobs. Default: `anonymous`. */
  principal?: string
}

/** Enqueues a batch in the transaction of the app. */
export async function enqueueBatch(core: Core, trx: OwnTransaction, batch: Batch): Promise<Job> {
  const { database, operations, seals, tracing } = core
  const { items: jobs, onEnd, allowFailures, principal = 'anonymous' } = batch
  assertPrincipal(principal)
  if (jobs.length === 0 || jobs.length > maxBatchItems) {
    throw new TypeError(`A batch must have 1 to ${maxBatchItems} items, not ${jobs.length}`)
  }
  for (const { operation, payload } of onEnd ? [...jobs, onEnd] : jobs) {
    assertRegistered(operations, operation)
    assertPayload(operation, payload)
  }
  const ownTrx = await asTransaction(trx)
  await forceTwoPhase(database, ownTrx)
  const id = uuid7()
  const children = jobs.map(({ operation, payload, key }) => ({ id: uuid7(), operation, payload, idempotencyKey: key }))
  return traceSend(tracing, { id, operation: batchName, count: children.length }, (context) =>
    insertBatch(ownTrx, { ...{ id, principal, children, onEnd, allowFailures }, ...context }, seals),
  )
}
