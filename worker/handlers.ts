import type { Kysely } from 'kysely'
import type { Logger } from 'pino'
import type { BatchOutcome } from '../src/db/tables.ts'
import type { EnqueueOptions } from '../src/jobs/enqueue.ts'
import type { AnyTransaction, Operation, PayloadFor, ResultFor } from '../src/operation.ts'
import type { Schedule } from '../src/schedule.ts'

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
  /** A logger whose lines name the job, the attempt and the trace (`trace_id`, `span_id`). */
  log: Logger
  /**
   * Sets the path of the resource that the job created, for example `/todos/1`. When the job has succeeded, the client
   * is redirected to this path.
   */
  setResource(path: string): void
}

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
}

/** Options of a follow-up job. */
export interface FollowUpOptions extends EnqueueOptions {
  /**
   * Whether the follow-up job is a child of this job. This job then stays `running` until all its children have ended.
   * It fails with `children-failed` if one of them fails or is canceled. Default: false.
   */
  child?: boolean
}

/**
 * The results that `settle` returns, in the order of the jobs. `settle` returns nothing when the operation declares no
 * `result`.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: the function returns nothing
type Results<O extends Operation> = [ResultFor<O>] extends [undefined] ? void : ResultFor<O>[]

/**
 * A handler that only writes to the database. The worker claims its jobs in batches, and settles each batch in one
 * transaction.
 */
export interface SettleHandler<O extends Operation> {
  perform?: undefined
  /**
   * Writes the effects of a batch of jobs.
   *
   * @param trx the transaction that also completes these jobs. After a rollback, `settle` runs again, with all of the
   *   jobs or with some of them.
   * @returns the results, in the order of the jobs, when the operation declares a `result`
   */
  settle(trx: AnyTransaction, jobs: SettlingJob<O>[]): Promise<Results<O>>
  /** Maximum number of jobs per transaction, from 1 to 1,000. Default: 100. */
  batchSize?: number
  isolate?: undefined
}

/** A handler that does slow work or calls other services. */
export interface PerformHandler<O extends Operation> {
  /**
   * Does the work, outside of any transaction. `perform` may run several times for a job: after an error, a crash or a
   * lost connection.
   *
   * @returns the result, when the operation declares one
   */
  perform(job: PerformingJob<O>): Promise<[ResultFor<O>] extends [undefined] ? unknown : ResultFor<O>>
  /**
   * Records the work in the database. Default: only the result is stored.
   *
   * @param trx the transaction that also completes these jobs. After a rollback, `settle` runs again.
   * @returns results that replace the results of `perform`, in the order of the jobs. If `settle` returns nothing, the
   *   results of `perform` are kept.
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: the function may return nothing
  settle?(trx: AnyTransaction, jobs: SettlingJob<O>[]): Promise<ResultFor<O>[] | void>
  /** Maximum number of jobs that this process performs at the same time. Default: 10. */
  concurrency?: number
  isolate?: undefined
}

/** The function that performs a job: the default export of an isolated handler's module. */
export type Perform<O extends Operation = Operation> = PerformHandler<O>['perform']

/**
 * A handler whose `perform` runs in child processes or threads. Use it for work that may crash or block the event loop:
 * a crash or an endless loop then fails only that attempt.
 */
export interface IsolatedHandler<O extends Operation> extends Pick<PerformHandler<O>, 'settle'> {
  /** File URL of a module whose default export is a {@link Perform}: `new URL('./encode.ts', import.meta.url)`. */
  perform: URL
  /**
   * Where `perform` runs. A thread needs fewer resources. But a crash in native code, or too much memory outside of the
   * heap, still ends the whole worker. Default: `process`.
   */
  isolate?: 'process' | 'thread'
  /**
   * Maximum heap of each child in MiB, 16 or more. A job that needs more memory crashes its child. Default: the limit
   * of Node.js.
   */
  memoryLimit?: number
  /** Maximum number of children, each with one job at a time. Default: the number of processors. */
  concurrency?: number
}

/** How a worker runs the jobs of an operation. */
export type Handler<O extends Operation = Operation> = SettleHandler<O> | PerformHandler<O> | IsolatedHandler<O>

type OperationsOf<Record> = Extract<Record[keyof Record], Operation>

/** One handler for each operation of the record, keyed by the operation's name. */
export type HandlersFor<Record> = { [O in OperationsOf<Record> as O['name']]: Handler<O> }

/** What the worker passes to the function that creates the handlers. */
export interface Dependencies {
  /** Kysely on the worker's connection pool. Annotate its type with the app's tables. */
  // biome-ignore lint/suspicious/noExplicitAny: the app's tables are unknown here
  db: Kysely<any>
  /** The worker's logger. */
  log: Logger
  /**
   * Registers a function that closes a resource. When the worker has stopped, it calls these functions, the last
   * registered function first.
   */
  onShutdown(close: () => Promise<void> | void): void
}

/** Operations with their schedules and handlers. Create them with `defineHandlers`. */
export interface Handlers {
  /** The operations, by name. */
  readonly operations: ReadonlyMap<string, Operation>
  /** The schedules of the same record, by name. */
  readonly schedules: ReadonlyMap<string, Schedule>
  /**
   * Creates the handlers. The worker calls this function when the worker starts.
   *
   * @returns the handlers, by the name of their operation
   * @throws TypeError when an operation has no handler, or a handler has no operation
   */
  load(dependencies: Dependencies): Promise<ReadonlyMap<string, Handler>>
}
