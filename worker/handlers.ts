import type { Kysely } from 'kysely'
import type { Logger } from 'pino'
import type { EnqueueOptions } from '../src/jobs/enqueue.ts'
import { type AnyTransaction, type Operation, operationsIn, type PayloadFor, type ResultFor } from '../src/operation.ts'
import { type Schedule, schedulesIn } from '../src/schedule.ts'

/** What every handler sees of its job. */
export interface RunningJob<O extends Operation = Operation> {
  id: string
  operation: O['name']
  payload: PayloadFor<O>
  /** Who asked. */
  principal: string
  /** From 1. */
  attempt: number
  maxAttempts: number
  /** The same over all attempts and retries, for services outside that take an idempotency key. */
  idempotencyKey: string
  /** Of the request that asked for it (W3C Trace Context), for calls to services that are traced as well. */
  traceparent: string | undefined
  /** Names the job, the attempt and the trace in every line. */
  log: Logger
  /** Where the client is sent once the job has succeeded, for example `/todos/1`. */
  setResource(path: string): void
}

/** A job in `perform`: slow or outside work, in no transaction. */
export interface PerformingJob<O extends Operation = Operation> extends RunningJob<O> {
  /** Aborts when the job is canceled, the attempt's time is over or the worker stops. */
  signal: AbortSignal
  /**
   * Reports progress; returns at once, and what comes thick and fast is written together.
   *
   * @param percent 0 to 100; what the client sees never decreases
   */
  progress(percent: number, message?: string): void
}

/** A job in `settle`: the transaction that ends it. */
export interface SettlingJob<O extends Operation = Operation> extends RunningJob<O> {
  /** What `perform` returned. */
  result: [ResultFor<O>] extends [undefined] ? unknown : ResultFor<O>
  /**
   * Enqueues a follow-up job within the transaction; its operation's `accept` is not run. Its
   * principal is this job's unless the options say otherwise. Answers its id.
   *
   * @throws TypeError when the payload does not fit the operation's schema
   */
  enqueue<Next extends Operation>(
    trx: AnyTransaction,
    operation: Next,
    payload: PayloadFor<Next>,
    options?: EnqueueOptions,
  ): Promise<string>
}

/** The results of `settle`, in the order of the jobs; none for an operation without an inline result. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function that returns nothing is what is meant
type Results<O extends Operation> = [ResultFor<O>] extends [undefined] ? void : ResultFor<O>[]

/** Database effects only: jobs are claimed and settled by the batch. */
export interface SettleHandler<O extends Operation> {
  perform?: undefined
  /** Everything written through `trx` commits with the end of these jobs, or not at all. It may run again after a rollback. */
  settle(trx: AnyTransaction, jobs: SettlingJob<O>[]): Promise<Results<O>>
  /** Jobs in one transaction, at most; default 100. */
  batchSize?: number
  isolate?: undefined
}

/** Slow or outside work, and then the transaction that records it. */
export interface PerformHandler<O extends Operation> {
  perform(job: PerformingJob<O>): Promise<[ResultFor<O>] extends [undefined] ? unknown : ResultFor<O>>
  /** What it returns takes the place of what `perform` returned; nothing keeps that. */
  // biome-ignore lint/suspicious/noConfusingVoidType: a function that returns nothing is what is meant
  settle?(trx: AnyTransaction, jobs: SettlingJob<O>[]): Promise<ResultFor<O>[] | void>
  /** Performs at once in this process; default 10. */
  concurrency?: number
  isolate?: undefined
}

/** The function that performs: what a module exports by default for a handler that isolates it. */
export type Perform<O extends Operation = Operation> = PerformHandler<O>['perform']

/**
 * Work that may crash or hog the event loop, in child processes or threads of its own. A crash, or a loop without end,
 * fails that one attempt.
 */
export interface IsolatedHandler<O extends Operation> extends Pick<PerformHandler<O>, 'settle'> {
  /** A module on disk whose default export is a {@link Perform}: `new URL('./encode.ts', import.meta.url)`. */
  perform: URL
  /**
   * `process` by default. A thread is lighter, but what ends the whole process still ends it: a crash in native code, or
   * memory outside the heap.
   */
  isolate?: 'process' | 'thread'
  /** The heap of each, in MiB; what needs more crashes. Default: as much as Node.js takes, which is gigabytes. */
  memoryLimit?: number
  /** How many there are at most, each with one job at a time; default: one for each processor. */
  concurrency?: number
}

export type Handler<O extends Operation = Operation> = SettleHandler<O> | PerformHandler<O> | IsolatedHandler<O>

type OperationsOf<Record> = Extract<Record[keyof Record], Operation>

/** One handler for each operation of the record, by its name. */
export type HandlersFor<Record> = { [O in OperationsOf<Record> as O['name']]: Handler<O> }

/** What handlers may depend on. */
export interface Dependencies {
  /** Kysely on the worker's pool; give it the app's tables. */
  // biome-ignore lint/suspicious/noExplicitAny: the app's tables are unknown here
  db: Kysely<any>
  log: Logger
  /** Called when the worker has drained. */
  onShutdown(close: () => Promise<void> | void): void
}

/** Operations with their handlers and schedules; made by {@link defineHandlers}. */
export interface Handlers {
  readonly operations: ReadonlyMap<string, Operation>
  /** Those defined beside the operations. */
  readonly schedules: ReadonlyMap<string, Schedule>
  /** @throws TypeError when a handler is missing or surplus */
  load(dependencies: Dependencies): Promise<ReadonlyMap<string, Handler>>
}

/**
 * Defines the handlers of the operations of a module namespace or any other record. A missing or surplus handler does
 * not compile, and stops the worker at its start. Handlers with dependencies are made by a function.
 */
export function defineHandlers<const Record extends object>(
  record: Record,
  handlers: NoInfer<
    HandlersFor<Record> | ((dependencies: Dependencies) => HandlersFor<Record> | Promise<HandlersFor<Record>>)
  >,
): Handlers {
  const operations = operationsIn(record)
  return {
    operations,
    schedules: schedulesIn(record, operations),
    async load(dependencies) {
      const made = typeof handlers === 'function' ? await handlers(dependencies) : handlers
      const byName = new Map(Object.entries(made as object)) as Map<string, Handler>
      const missing = [...operations.keys()].filter((name) => !byName.has(name))
      const surplus = [...byName.keys()].filter((name) => !operations.has(name))
      if (missing.length > 0) throw new TypeError(`There is no handler for ${missing.join(', ')}`)
      if (surplus.length > 0) throw new TypeError(`There is a handler but no operation for ${surplus.join(', ')}`)
      return byName
    },
  }
}
