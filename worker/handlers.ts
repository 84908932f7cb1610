import type { Kysely } from 'kysely'
import type { Logger } from 'pino'
import type { AnyTransaction, Operation, ResultFor } from '../src/operation.ts'
import type { Schedule } from '../src/schedule.ts'
import type { PerformingJob, SettlingJob } from './running-job.ts'

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
