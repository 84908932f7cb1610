import type { Operation, PayloadFor } from 'accepted'
import { createWorker, type Handlers, type Worker, type WorkerOptions } from 'accepted/worker'
import { pino } from 'pino'
import type { Test } from 'tap'
import { v7 as uuid7 } from 'uuid'
import { type PgBoss, prepareQueues, startBoss } from '../../src/db/boss.ts'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { enqueue, type NewJob } from '../../src/jobs/enqueue.ts'
import { deliverWebhook } from '../../src/jobs/webhook-delivery.ts'
import { createDatabase } from './database.ts'
import { until } from './until.ts'

/** A database with jobs, and workers on it in this process. */
export interface Jobs {
  database: Database
  boss: PgBoss
  /** Enqueues a job and answers its id. */
  add<O extends Operation>(operation: O, payload: PayloadFor<O>, more?: Partial<NewJob>): Promise<string>
  work(
    handlers: Handlers,
    options?: Partial<Pick<WorkerOptions, 'database' | 'only' | 'log' | 'graceSeconds' | 'publicUrl' | 'webhookAllow'>>,
  ): Promise<Worker>
  /** The row of a job. */
  // biome-ignore lint/suspicious/noExplicitAny: the row is what the test is about
  read(id: string): Promise<any>
  /** Waits for the end of a job and answers its row. */
  // biome-ignore lint/suspicious/noExplicitAny: the row is what the test is about
  ended(id: string): Promise<any>
  // biome-ignore lint/suspicious/noExplicitAny: the rows are what the test is about
  query(text: string, values?: unknown[]): Promise<any[]>
}

/** Opens a database of the test's own, with a table for effects. */
export async function openJobs(t: Test, operations: readonly Operation[]): Promise<Jobs> {
  const url = await createDatabase(t)
  const database = openDatabase({ url })
  t.teardown(() => database.close())
  const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
  t.teardown(() => boss.stop({ graceful: false }))
  await prepareQueues(boss, [...operations, deliverWebhook])
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
      const worker = await createWorker({ handlers, database: url, log, graceSeconds: 1, ...options })
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
