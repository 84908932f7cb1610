import type { Logger } from 'pino'
import type { AbandonedJobError } from '../src/abandonment.ts'
import type { BatchOutcome, ChildCounts } from '../src/db/tables.ts'
import type { EnqueueOptions } from '../src/jobs/enqueue.ts'
import type { Batch } from '../src/jobs/new-batch.ts'
import type { AnyTransaction, Operation, PayloadFor, ResultFor } from '../src/operation.ts'

/** The properties that a job has in both `perform` and `settle`. */
export interface RunningJob<O extends Operation = Operation> {
  /** A UUIDv7. */
  id: string
  /** The name of the operation. */
  operation: O['name']
  payload: PayloadFor<O>
  /** The owner of the job. */
  principal: string
  /** The number of this attempt, from 1. */
  attempt: number
  /** The job fails after this many failed attempts. */
  maxAttempts: number
  /**
   * The key that the client has sent, or else the id of the first job. The same in all attempts and retries. Other
   * principals may use the same key, so pass on {@link PerformingJob.effectKey} to outside services.
   */
  idempotencyKey: string
  /**
   * The W3C Trace Context of this attempt, or that of the request if the worker does not trace. Pass it on to services
   * that are traced, in the headers `traceparent` and `tracestate`.
   */
  traceparent: string | undefined
  tracestate: string | undefined
  /**
   * For a job that a batch has enqueued at its end (`onEnd`): the id of the batch, and how many of its children have
   * succeeded, failed or were canceled. Undefined for any other job.
   */
  batch: BatchOutcome | undefined
  /** The id of the worker process in `accepted.worker`. Each start of a process gets a new one. */
  worker: string
  /** A logger whose lines name the job, the attempt and the trace (`trace_id`, `span_id`). */
  log: Logger
  /**
   * Sets the path of the resource that the job created, for example `/todos/1`. When the job has succeeded, the client
   * is redirected to this path.
   */
  setResource(path: string): void
  /**
   * Reads the jobs that this job has waited for (`after`), in the order in which `after` named them: their status, and
   * their result or error. Leaves out jobs whose record is gone. In `perform` and in `settle`, the first call sends one
   * statement; in `settle`, for all jobs of the batch. Large results make `settle` run in smaller batches.
   *
   * The jobs may belong to other principals than this job.
   *
   * @param operation returns only the jobs of this operation, with typed results. Default: all of them.
   * @throws RangeError when the results have more than 16 MiB
   */
  dependencies<Other extends Operation = Operation>(operation?: Other): Promise<Dependency<Other>[]>
}

/** A job that another job has waited for. */
export type Dependency<O extends Operation = Operation> = {
  /** A UUIDv7. */
  id: string
  /** The name of the operation. */
  operation: O['name']
  /** The owner of the job. */
  principal: string
  /** The path of the resource that the job created. */
  resource: string | undefined
  /** How many children the job has. Undefined: none. */
  children: ChildCounts | undefined
} & (
  | {
      status: 'succeeded'
      /** Undefined if the operation has no `result`. Sealed members are decrypted. */
      result: string extends O['name'] ? unknown : ResultFor<O>
    }
  | { status: 'failed'; error: AbandonedJobError }
  | { status: 'canceled' }
)

/**
 * A job passed to `perform`, which does slow work or calls other services. `perform` runs outside of any transaction.
 */
export interface PerformingJob<O extends Operation = Operation> extends RunningJob<O> {
  /**
   * A UUID for outside services that deduplicate by a key. The same in all attempts and retries of the job, and in jobs
   * of the operation that have the same principal and the same {@link RunningJob.idempotencyKey}. No other job has it.
   */
  effectKey: string
  /** Aborts when the job is canceled, the attempt exceeds `timeoutSeconds`, or the worker stops. */
  signal: AbortSignal
  /**
   * Reports progress. Returns immediately; the worker writes the latest report of each job every 250 ms.
   *
   * @param percent 0 to 100; clients never see it decrease
   * @param message for people; cut to 500 characters. Default: the previous message.
   * @throws RangeError when `percent` is not between 0 and 100
   */
  progress(percent: number, message?: string): void
}

/** A job passed to `settle`, which runs in the transaction that completes the job. */
export interface SettlingJob<O extends Operation = Operation> extends RunningJob<O> {
  /** The value that `perform` returned. */
  result: [ResultFor<O>] extends [undefined] ? unknown : ResultFor<O>
  /**
   * Enqueues a follow-up job within the transaction. The `accept` of the operation does not run. The follow-up job has
   * the principal of this job, unless the options name another principal.
   *
   * @returns the id of the follow-up job
   * @throws TypeError when the payload does not match the operation's schema
   * @throws Error when `after` names an unknown job, more than 100 jobs, or a job that would wait for the follow-up job
   */
  enqueue<Next extends Operation>(
    trx: AnyTransaction,
    operation: Next,
    payload: PayloadFor<Next>,
    options?: FollowUpOptions,
  ): Promise<string>
  /**
   * Enqueues a batch within the transaction, with the principal of this job unless the batch names another. Use it for
   * many follow-up jobs: the number of statements does not grow with each job.
   *
   * @returns the id of the batch, which `after` of further jobs may name
   * @throws TypeError when there are no items or more than 10,000, or when a payload does not match its schema
   */
  enqueueBatch<const Operations extends readonly Operation[], Next extends Operation = Operation>(
    trx: AnyTransaction,
    batch: FollowUpBatch<Operations, Next>,
  ): Promise<string>
}

/** A batch that `settle` enqueues. */
export interface FollowUpBatch<
  Operations extends readonly Operation[] = readonly Operation[],
  Next extends Operation = Operation,
> extends Batch<Operations, Next> {
  /** Whether the batch is a child of this job, like `child` of `enqueue`. Default: false. */
  child?: boolean
}

/** Options of a follow-up job. */
export interface FollowUpOptions extends EnqueueOptions {
  /**
   * Whether the follow-up job is a child of this job. This job then stays `running` until all its children have ended.
   * It fails with `children-failed` if one of them fails or is canceled. Default: false.
   */
  child?: boolean
}
