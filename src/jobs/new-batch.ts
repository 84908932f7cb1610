import type { Operation, PayloadFor } from '../operation.ts'
import { uuid7 } from '../primitives/uuid.ts'
import { assertPayload } from '../validation.ts'
import { maxBatchItems, type NewBatch } from './enqueue-batch.ts'

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
  /** The owner of the batch and of its jobs. Default: `anonymous`. In `settle`: the principal of the job. */
  principal?: string
}

/**
 * Makes the ids of a batch and of its jobs.
 *
 * @throws TypeError when there are no items or more than 10,000, or when a payload does not match its schema
 */
export function toNewBatch({ items, onEnd, allowFailures }: Batch, principal: string): NewBatch {
  if (items.length === 0 || items.length > maxBatchItems) {
    throw new TypeError(`A batch must have 1 to ${maxBatchItems} items, not ${items.length}`)
  }
  for (const { operation, payload } of onEnd ? [...items, onEnd] : items) assertPayload(operation, payload)
  const id = uuid7()
  const children = items.map(({ operation, payload, key }) => ({
    id: uuid7(),
    operation,
    payload,
    idempotencyKey: key,
  }))
  return { id, principal, children, onEnd, allowFailures }
}
