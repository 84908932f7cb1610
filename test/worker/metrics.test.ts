import { once } from 'node:events'
import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed, type Worker } from 'accepted/worker'
import { sql } from 'kysely'
import t from 'tap'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { readSeries, Word } from './support.ts'

const say = defineOperation({
  name: 'word.say',
  input: Word,
  retry: { limit: 1, delaySeconds: 0, backoff: false },
})
const batch = defineOperation({ name: 'word.batch', input: Word })
const operations = { say, batch }

/** Returns a function that reads the value of a series. The value of a missing series is undefined. */
const readerOf = (worker: Worker) => async (series: string) => readSeries(await worker.metrics(), series)

t.test('metrics count attempts by outcome, and measure how long jobs waited and ran', async (t) => {
  const jobs = await openJobs(t, [say, batch])
  const isRunning = Promise.withResolvers<void>()
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ payload, attempt, signal }) => {
          if (payload.word === 'fail') throw new JobFailed('no', 'No')
          if (payload.word === 'again' && attempt === 1) throw new Error('Again')
          if (payload.word === 'cancel') {
            isRunning.resolve()
            await once(signal, 'abort')
          }
        },
      },
      'word.batch': {
        settle: async (trx, all) => {
          if (all.some(({ payload }) => payload.word === 'poison')) throw new JobFailed('no', 'No')
          if (all.some(({ payload }) => payload.word === 'stolen')) {
            await sql`
              update accepted_queue.job set retry_count = retry_count + 1
              where data -> 'payload' ->> 'word' = 'stolen'`.execute(trx)
          }
        },
      },
    }),
  )
  const metric = readerOf(worker)
  const first = await jobs.add(say, { word: 'x' }, { runAt: new Date(Date.now() - 20_000) })
  await jobs.ended(first)
  for (const one of ['fail', 'again']) await jobs.ended(await jobs.add(say, { word: one }))
  const canceled = await jobs.add(say, { word: 'cancel' })
  await isRunning.promise
  await jobs.query('update accepted.job set cancel_requested = true where id = $1', [canceled])
  await jobs.ended(canceled)

  const attempts = (operation: string, outcome: string) =>
    metric(`accepted_attempts_total{operation="${operation}",outcome="${outcome}"}`)
  await until(async () => (await attempts('word.say', 'canceled')) === 1)
  t.equal(await attempts('word.say', 'succeeded'), 2)
  t.equal(await attempts('word.say', 'failed'), 1)
  t.equal(await attempts('word.say', 'retried'), 1)
  const label = '{operation="word.say"}'
  await until(async () => (await metric(`accepted_attempt_duration_seconds_count${label}`)) === 5)
  t.ok(((await metric(`accepted_job_wait_seconds_count${label}`)) ?? 0) >= 1)
  t.ok(((await metric(`accepted_job_wait_seconds_sum${label}`)) ?? 0) >= 20)
  for (const series of ['accepted_pool_connections', 'process_cpu_seconds_total']) t.ok(await metric(series), series)

  await jobs.database.kysely.transaction().execute(async (trx) => {
    const all = ['a', 'b', 'poison'].map((word) => ({
      ...{ id: uuid7(), operation: batch, payload: { word }, principal: 'ann' },
    }))
    await enqueue(jobs.boss, trx, all)
  })
  await until(async () => (await attempts('word.batch', 'succeeded')) === 2)
  await until(async () => (await attempts('word.batch', 'failed')) === 1)
  t.ok(((await metric('accepted_transactions_retried_total{operation="word.batch",reason="bisected"}')) ?? 0) >= 1)
  await jobs.add(batch, { word: 'stolen' })
  await until(async () => (await attempts('word.batch', 'lost')) === 1)
})

t.test('metrics show the backlog and its age, released jobs, and transactions that ran again', async (t) => {
  const jobs = await openJobs(t, [say, batch])
  let faults = 0
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': { concurrency: 1, perform: () => new Promise(() => {}) },
      'word.batch': {
        settle: async (trx) => {
          faults += 1
          if (faults === 1) await sql`do $$ begin raise exception sqlstate '40001'; end $$`.execute(trx)
          if (faults === 2) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx)
        },
      },
    }),
    { graceSeconds: 0 },
  )
  const metric = readerOf(worker)
  const held = await jobs.add(say, { word: 'held' })
  await until(async () => (await metric('accepted_jobs_running{operation="word.say"}')) === 1)
  await jobs.add(say, { word: 'waits' }, { runAt: new Date(Date.now() - 100_000) })
  await jobs.add(say, { word: 'deferred' }, { runAt: new Date(Date.now() + 100_000) })
  await until(async () => ((await metric('accepted_oldest_ready_job_age_seconds{operation="word.say"}')) ?? 0) > 99)
  t.equal(await metric('accepted_jobs_ready{operation="word.say"}'), 1)
  t.equal(await metric('accepted_oldest_ready_job_age_seconds{operation="word.batch"}'), 0)

  await jobs.ended(await jobs.add(batch, { word: 'x' }))
  for (const reason of ['contention', 'outage']) {
    t.equal(await metric(`accepted_transactions_retried_total{operation="word.batch",reason="${reason}"}`), 1)
  }
  await worker.stop()
  t.match(await jobs.read(held), { status: 'queued' })
  t.equal(await metric('accepted_attempts_total{operation="word.say",outcome="released"}'), 1)
})
