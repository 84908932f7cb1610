import type { Kysely } from 'kysely'
import type { OwnTransaction } from '../db/transaction-on.ts'
import type { EnqueueOptions } from '../jobs/enqueue.ts'
import type { Job } from '../jobs/job.ts'
import type { Monitor } from '../jobs/monitor-schema.ts'
import type { Batch } from '../jobs/new-batch.ts'
import type { Site } from '../jobs/site.ts'
import type { Operation, PayloadFor } from '../operation.ts'
import { cancelFor, getFor, type JobOptions, type RetryOptions, retryFor } from './acts.ts'
import type { Core } from './core.ts'
import { type EnqueueItem, enqueueAll } from './enqueue.ts'
import { enqueueBatch } from './enqueue-batch.ts'
import { createShow } from './show.ts'

/**
 * Enqueues jobs, and reads, cancels and retries them. Returned by `connect`; `app.accepted` has the same members.
 *
 * Errors about a job have a `code`, as over HTTP: see the methods.
 */
export interface Accepted {
  /** Kysely on the connection pool, for the app's own reads and transactions. Cast it to the app's tables. */
  // biome-ignore lint/suspicious/noExplicitAny: the tables of the app are not known
  db: Kysely<any>
  /**
   * Enqueues a job in the caller's transaction. Does not call the operation's `accept`. The job exists only after the
   * transaction has committed. In a Fastify app, answer with `reply.accepted(job)` then.
   *
   * @param trx a Kysely transaction, a `pg` client after BEGIN, or a transaction from `accepted/adapters`
   * @param options.principal default: `anonymous`
   * @throws TypeError if `trx` is no transaction, the operation is not registered, or principal or payload is invalid
   */
  enqueue<O extends Operation>(
    trx: OwnTransaction,
    operation: O,
    payload: PayloadFor<O>,
    options?: EnqueueOptions,
  ): Promise<Monitor>
  /** Enqueues any number of jobs that are independent of each other. Otherwise like `enqueue`. */
  enqueueAll<const Operations extends readonly Operation[]>(
    trx: OwnTransaction,
    items: { [Index in keyof Operations]: EnqueueItem<Operations[Index]> },
  ): Promise<Monitor[]>
  /**
   * Enqueues jobs that belong together, and the job `batch` that ends with the last of them. Otherwise like `enqueue`.
   *
   * @throws TypeError like `enqueue`, or if there are no items or more than 10,000
   */
  enqueueBatch<const Operations extends readonly Operation[], Next extends Operation = Operation>(
    trx: OwnTransaction,
    batch: Batch<Operations, Next>,
  ): Promise<Monitor>
  /** Reads the status of a job. Returns undefined if there is no such job, or if its record has expired. */
  get(id: string, options?: JobOptions): Promise<Monitor | undefined>
  /**
   * Cancels a job, in a transaction of its own. A queued job is canceled at once. For a running job,
   * `cancelRequested` is then true, and the signal of its handler aborts.
   *
   * @throws Error with the code `not-found`, `job-expired`, `job-ended` (it has succeeded or failed) or `job-locked`
   */
  cancel(id: string, options?: JobOptions): Promise<Monitor>
  /**
   * Runs a failed or canceled job again, as a new job, in a transaction of its own.
   *
   * @returns the new job, or with `key` the job of an earlier call with this key
   * @throws Error with the code `not-found`, `job-expired`, `job-not-retryable`, `job-locked`, `backlog-full`,
   *   `principal-backlog-full`, `idempotency-key-reused` or `idempotency-key-locked`
   */
  retry(id: string, options?: RetryOptions): Promise<Monitor>
  /** Closes the connections. In a Fastify app, `app.close()` does so. */
  close(): Promise<void>
}

/** Where clients reach the API of an app, and what notifies the workers of new jobs. */
export interface Place {
  /** The URLs that the links of jobs start with. */
  site: Site
  /** The path of the job list, as the API sees it. */
  jobsPath: string
  /** Whether the commit of an enqueued job notifies the workers. Otherwise the app does so after the commit. */
  notifies: boolean
}

/** Creates the object that an app uses. */
export function createAccepted(core: Core, { site, jobsPath, notifies }: Place): Accepted {
  const show = createShow(core, site)
  return {
    db: core.database.kysely,
    enqueue: async (trx, operation, payload, options) => {
      const jobs = await enqueueAll(core, trx, [{ ...options, operation, payload }], notifies)
      return show(jobs[0] as Job)
    },
    enqueueAll: async (trx, items) => (await enqueueAll(core, trx, items as readonly EnqueueItem[], true)).map(show),
    enqueueBatch: async (trx, batch) => show(await enqueueBatch(core, trx, batch as unknown as Batch)),
    get: (id, options) => getFor(core, id, options, show),
    cancel: async (id, options) => show(await cancelFor(core, id, options)),
    retry: async (id, options) => show(await retryFor(core, id, jobsPath, options)),
    close: core.close,
  }
}
