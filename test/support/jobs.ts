import type { Operation, PayloadFor } from 'accepted'
import { createWorker, type Handlers, type Worker, type WorkerOptions } from 'accepted/worker'
import type { Transaction } from 'kysely'
import { pino } from 'pino'
import type { Test } from 'tap'
import { v7 as uuid7 } from 'uuid'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { builtInOperations } from '../../src/jobs/built-in.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import type { NewJob } from '../../src/jobs/new-job.ts'
import { type PgBoss, startBoss } from '../../src/queue/boss.ts'
import { prepareQueues } from '../../src/queue/define-operations.ts'
import { asRole, createDatabase } from './database.ts'
import { until } from './until.ts'

/** The table that the handlers of tests write to. */
export interface EffectTables {
  effect: { job_id: string; word: string }
}

/** Writes one effect per job, in the transaction of a `settle` or an `accept`. */
export async function writeEffects(
  trx: Transaction<EffectTables>,
  jobs: readonly { id: string; payload: { word: string } }[],
): Promise<void> {
  const rows = jobs.map(({ id, payload }) => ({ job_id: id, word: payload.word }))
  await trx.insertInto('effect').values(rows).execute()
}

/** A database with jobs, and functions that add jobs and start workers in this process. */
export interface Jobs {
  database: Database
  boss: PgBoss
  /** Enqueues a job of the principal `ann`. Returns its id. */
  add<O extends Operation>(operation: O, payload: PayloadFor<O>, more?: Partial<NewJob>): Promise<string>
  /** Starts a worker. */
  work(
    handlers: Handlers,
    options?: Partial<
      Pick<
        WorkerOptions,
        'database' | 'operations' | 'log' | 'graceSeconds' | 'publicUrl' | 'webhookAllow' | 'encryptionKeys'
      >
    >,
  ): Promise<Worker>
  /** Reads the row of a job. */
  // biome-ignore lint/suspicious/noExplicitAny: a row of any shape
  read(id: string): Promise<any>
  /** Waits until a job has ended. Returns its row. */
  // biome-ignore lint/suspicious/noExplicitAny: a row of any shape
  ended(id: string): Promise<any>
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  query(text: string, values?: unknown[]): Promise<any[]>
}

/**
 * Creates a database with the queues of the operations and a table `effect`.
 *
 * @param givenUrl the URL of a migrated database to use instead of a new one
 */
export async function openJobs(t: Test, operations: readonly Operation[], givenUrl?: string): Promise<Jobs> {
  const url = givenUrl ?? (await createDatabase(t))
  const database = openDatabase({ url })
  t.teardown(() => database.close())
  const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
  t.teardown(() => boss.stop({ graceful: false }))
  await prepareQueues(database, boss, [...operations, ...builtInOperations])
  await database.pool.query('create table effect (job_id uuid not null, word text)')
  const query: Jobs['query'] = async (text, values) => (await database.pool.query(text, values)).rows
  const read = async (id: string) => (await query('select * from accepted.job where id = $1', [id]))[0]
  return {
    database,
    boss,
    query,
    read,
    async add(operation, payload, more) {
      const job = { id: uuid7(), operation, payload, principal: 'ann', ...more }
      await database.kysely.transaction().execute((trx) => enqueue(boss, trx, [job]))
      return job.id
    },
    async work(handlers, options) {
      const log = pino({ level: process.env.LOG_LEVEL ?? 'silent' })
      const worker = await createWorker({
        ...{ handlers, log, graceSeconds: 1 },
        ...options,
        database: asRole(options?.database ?? url, 'worker'),
      })
      t.teardown(() => worker.stop())
      return worker
    },
    ended: (id) =>
      until(async () => {
        const row = await read(id)
        return row.ended_at && row
      }),
  }
}
