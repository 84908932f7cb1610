import type pg from 'pg'
import { asTransaction } from '../../db/transaction-on.ts'
import { insertBatch, maxBatchItems } from '../../jobs/enqueue-batch.ts'
import type { Job } from '../../jobs/job.ts'
import type { Seals } from '../../jobs/seals.ts'
import { traceSend } from '../../jobs/spans.ts'
import { type AnyTransaction, batchName, type Operation, type PayloadFor } from '../../operation.ts'
import { assertPrincipal } from '../../primitives/principal.ts'
import type { Tracing } from '../../primitives/tracing.ts'
import { uuid7 } from '../../primitives/uuid.ts'
import { assertPayload } from '../../validation.ts'

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

export type EnqueueBatch = <const Operations extends readonly Operation[], Next extends Operation = Operation>(
  trx: AnyTransaction | pg.ClientBase,
  batch: Batch<Operations, Next>,
) => Promise<Job>

/** Creates `app.accepted.enqueueBatch`. */
export function createEnqueueBatch(
  operations: ReadonlyMap<string, Operation>,
  seals: Seals,
  tracing: Tracing | undefined,
): EnqueueBatch {
  return async (trx, { items, onEnd, allowFailures, principal = 'anonymous' }) => {
    assertPrincipal(principal)
    const jobs = items as readonly BatchItem[]
    if (jobs.length === 0 || jobs.length > maxBatchItems) {
      throw new TypeError(`A batch must have 1 to ${maxBatchItems} items, not ${jobs.length}`)
    }
    for (const { operation, payload } of onEnd ? [...jobs, onEnd as BatchItem] : jobs) {
      assertRegistered(operations, operation)
      assertPayload(operation, payload)
    }
    const id = uuid7()
    const children = jobs.map(({ operation, payload, key }) => ({
      id: uuid7(),
      operation,
      payload,
      idempotencyKey: key,
    }))
    const batch = { id, principal, children, onEnd, allowFailures }
    return traceSend(tracing, { id, operation: batchName, count: children.length }, (context) =>
      insertBatch(asTransaction(trx), { ...batch, ...context }, seals),
    )
  }
}

/** @throws TypeError if the app does not have this operation */
export function assertRegistered(operations: ReadonlyMap<string, Operation>, operation: Operation): void {
  if (operations.get(operation.name) === operation) return
  throw new TypeError(`Operation '${operation.name}' is not registered`)
}
