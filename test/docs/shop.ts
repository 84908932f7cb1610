import { join } from 'node:path'
import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import type { Test } from 'tap'
import Type from 'typebox'
import * as orders from '../../examples/sql/operations.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { asRole } from '../support/database.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { root } from './markdown.ts'

/** The pages whose statements run in a database of examples/sql, and how that is prepared. */
export const shopPages: Readonly<Record<string, (t: Test, url: string) => Promise<void>>> = {
  'docs/sql.md': prepareShop,
  'docs/postgres.md': (_, url) => migrateShop(url),
}

const migrateShop = (url: string) =>
  migrate({ url: asRole(url, 'migrate'), appMigrations: join(root, 'examples/sql/migrations') })

const report = defineOperation({ name: 'report.build', summary: 'Build a report', input: Type.Object({}) })
const stock = defineOperation({ name: 'stock.sync', summary: 'Copy the stock', input: Type.Object({}) })
const invoice = { ...orders.createInvoice, retry: { limit: 1, delaySeconds: 0, backoff: false, maxDelaySeconds: 60 } }
const claimed = { order: orders.confirmOrder, invoice, report }

const untilAborted = (signal: AbortSignal) => new Promise((resolve) => signal.addEventListener('abort', resolve))

/** The invoices of new orders fail. Their retries succeed, and so do other invoices. */
const handlers = defineHandlers(claimed, {
  'order.confirm': { settle: async () => {} },
  'invoice.create': {
    perform: async ({ id, payload, idempotencyKey }) => {
      if (idempotencyKey !== id || payload.orderId === 9) return
      if (payload.orderId === 3) throw new JobFailed('address-unknown', 'There is no address of this customer')
      throw new Error('connect ECONNREFUSED 10.0.0.7:25')
    },
  },
  'report.build': {
    perform: async (job) => {
      job.progress(40, 'Reading orders')
      await untilAborted(job.signal)
    },
  },
})

/**
 * Prepares the database of examples/sql, with a live worker, app-1, and a dead one, app-2. Jobs have succeeded and
 * failed, run for too long, wait for a worker that is gone, and are deferred.
 */
async function prepareShop(t: Test, url: string): Promise<void> {
  await migrateShop(url)
  const jobs = await openJobs(t, [...Object.values(claimed), stock], url)
  await jobs.query('drop table effect')
  await loseWorker(jobs)
  await jobs.work(handlers)
  await jobs.query(`update accepted.worker set host = 'app-1', pid = 217 where host <> 'app-2'`)
  const orders = await jobs.query(
    `insert into orders (customer, total) values ('ann', 9.90), ('bob', 12), ('cem', 7.50) returning id, customer`,
  )
  for (const { id, customer } of orders) {
    const [{ id: failed }] = await jobs.query(
      `select accepted.enqueue('invoice.create', jsonb_build_object('orderId', $1::bigint), principal => $2) as id`,
      [id, customer],
    )
    await jobs.ended(failed)
  }
  await jobs.query(
    `select accepted.enqueue('order.confirm', '{"orderId": 2}', principal => 'bob', idempotency_key => 'confirm-2')`,
  )
  await enqueueDeferred(jobs)
  await jobs.query(
    `insert into accepted.schedule (name, operation, expression, timezone, next_at)
    values ('nightly-report', 'report.build', '0 2 * * *', 'Europe/Berlin', now() + interval '5 hours')`,
  )
  const [{ id: synced }] = await jobs.query(
    `select id from accepted.job where operation = 'stock.sync' order by id limit 1`,
  )
  await jobs.add(report, {}, { principal: 'dan', after: [synced] })
  const running = await enqueueReport(jobs)
  await jobs.query(`update accepted_queue.job set started_on = now() - interval '10 minutes' where id = $1`, [running])
  await until(async () => (await jobs.query(`select from accepted.job where status = 'succeeded'`)).length === 4)
}

/** The worker app-2 has died while it held a job, and no other worker claims the operation. */
async function loseWorker({ query }: Jobs): Promise<void> {
  await query(
    `insert into accepted.worker (id, host, pid, version, operations, heartbeat_at)
    values (accepted.uuid7(), 'app-2', 4711, '0.1.0', '{stock.sync}', now() - interval '2 minutes')`,
  )
  await query(`select accepted.enqueue('stock.sync')`)
  await query(`select from accepted.claim('stock.sync', 1, '-infinity')`)
  await query(
    `with died as (
      update accepted_queue.job set heartbeat_on = now() - interval '2 minutes' where name = 'stock.sync' returning id
    )
    update accepted.job set status = 'running', attempt = 1, started_at = now(), attempt_started_at = now(),
      worker_id = (select id from accepted.worker)
    where id in (select id from died)`,
  )
  await query(`select accepted.enqueue('stock.sync', run_at => now() - interval '2 hours')`)
}

async function enqueueDeferred({ query }: Jobs): Promise<void> {
  await query(
    `select accepted.enqueue('invoice.create', '{"orderId": 9}', principal => 'bob',
      run_at => now() + day * interval '1 day')
    from generate_series(1, 3) day`,
  )
  await query(
    `select accepted.enqueue('order.confirm', '{"orderId": 1}', principal => 'ann',
      run_at => now() + interval '5 hours')
    from generate_series(1, 2)`,
  )
}

async function enqueueReport({ query, read }: Jobs): Promise<string> {
  const [{ id }] = await query(`select accepted.enqueue('report.build', principal => 'ann') as id`)
  await until(async () => (await read(id)).percent === 40)
  return id
}
