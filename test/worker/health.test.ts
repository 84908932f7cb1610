import { once } from 'node:events'
import { createServer } from 'node:net'
import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed, serveHealth, type Worker } from 'accepted/worker'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { get } from '../support/client.ts'
import { openJobs } from '../support/jobs.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

const word = defineOperation({
  name: 'word.say',
  input: Type.Object({ word: Type.String() }),
  retry: { limit: 1, delaySeconds: 0, backoff: false },
})
const batch = defineOperation({ name: 'word.batch', input: Type.Object({ word: Type.String() }) })
const operations = { word, batch }

async function serve(t: Test, worker: () => Worker | undefined): Promise<string> {
  const server = await serveHealth('127.0.0.1', 0, worker)
  t.teardown(() => server.close())
  return `http://127.0.0.1:${server.port}`
}

/** Reads the value of a series; undefined when there is none. */
async function metric(url: string, series: string): Promise<number | undefined> {
  const { body } = await get(`${url}/metrics`)
  const line = body.split('\n').find((one: string) => one.startsWith(`${series} `))
  return line && Number(line.slice(series.length))
}

t.test('a worker is starting, then ready, then draining, and live all the time', async (t) => {
  const jobs = await openJobs(t, [word, batch])
  let worker: Worker | undefined
  const url = await serve(t, () => worker)
  t.match(await get(`${url}/health/ready`), { status: 503, body: { status: 'starting' } })
  t.match(await get(`${url}/metrics`), { status: 503, body: { error: { code: 'starting' } } })
  const { promise, resolve } = Promise.withResolvers<void>()
  worker = await jobs.work(
    defineHandlers(operations, { 'word.say': { perform: () => promise }, 'word.batch': { settle: async () => {} } }),
    { graceSeconds: 30 },
  )
  t.match(await get(`${url}/health/ready`), { status: 200, body: { status: 'ready' } })
  await jobs.add(word, { word: 'x' })
  await until(async () => (await metric(url, 'accepted_jobs_running{operation="word.say"}')) === 1)
  const stopped = worker.stop()
  t.match(await get(`${url}/health/ready`), { status: 503, body: { status: 'draining' } })
  t.match(await get(`${url}/health/live`), { status: 200, body: { status: 'live' } })
  resolve()
  await stopped
})

t.test('HEAD is answered like GET, and unknown paths and methods with a problem', async (t) => {
  const url = await serve(t, () => undefined)
  for (const path of ['/health/live', '/health/ready?verbose', '/metrics', '/none']) {
    const head = await fetch(url + path, { method: 'HEAD' })
    const { status, headers } = await get(url + path)
    t.equal(head.status, status)
    for (const name of ['content-type', 'content-length']) t.equal(head.headers.get(name), headers.get(name), path)
    t.equal(await head.text(), '')
  }
  const none = await get(`${url}/none?secret=1`)
  t.match(none, { status: 404, body: { instance: '/none', error: { code: 'not-found' } } })
  t.match(none.headers.get('content-type'), 'application/problem+json')
  const post = await fetch(`${url}/health/live`, { method: 'POST' })
  t.equal(post.status, 405)
  t.equal(post.headers.get('allow'), 'GET, HEAD')
  t.match(await post.json(), { error: { code: 'method-not-allowed' } })
})

t.test('a worker is not ready while Postgres is unreachable, and is ready again after that', async (t) => {
  const jobs = await openJobs(t, [word, batch])
  const proxy = await startProxy(t, jobs.database.options.url)
  const worker = await jobs.work(
    defineHandlers(operations, { 'word.say': { perform: async () => {} }, 'word.batch': { settle: async () => {} } }),
    { database: proxy.url },
  )
  const url = await serve(t, () => worker)
  await until(async () => (await metric(url, 'accepted_listener_up')) === 1)
  t.equal(await metric(url, 'accepted_jobs_ready{operation="word.say"}'), 0)
  await proxy.close()
  await until(async () => (await get(`${url}/health/ready`)).body.status === 'database-unreachable')
  t.match(await get(`${url}/health/ready`), { status: 503 })
  t.equal((await get(`${url}/health/live`)).status, 200)
  t.equal(await metric(url, 'accepted_listener_up'), 0)
  await until(async () => (await metric(url, 'accepted_jobs_ready{operation="word.say"}')) === undefined)
  await proxy.open()
  await until(async () => (await get(`${url}/health/ready`)).status === 200)
  await until(async () => (await metric(url, 'accepted_listener_up')) === 1)
})

t.test('a Postgres that never answers counts as unreachable, and a scrape does not wait for it', async (t) => {
  const jobs = await openJobs(t, [word, batch])
  const proxy = await startProxy(t, jobs.database.options.url)
  const worker = await jobs.work(
    defineHandlers(operations, { 'word.say': { perform: async () => {} }, 'word.batch': { settle: async () => {} } }),
    { database: proxy.url },
  )
  const url = await serve(t, () => worker)
  await proxy.close()
  const unresponsive = createServer(() => {}).listen(Number(new URL(proxy.url).port), '127.0.0.1')
  await once(unresponsive, 'listening')
  t.teardown(() => unresponsive.close())
  await until(async () => (await get(`${url}/health/ready`)).body.status === 'database-unreachable')
  t.equal((await get(`${url}/metrics`)).status, 200)
})

t.test('metrics count attempts by outcome, and measure how long jobs waited and ran', async (t) => {
  const jobs = await openJobs(t, [word, batch])
  const running = Promise.withResolvers<void>()
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.say': {
        perform: async ({ payload, attempt, signal }) => {
          if (payload.word === 'fail') throw new JobFailed('no', 'No')
          if (payload.word === 'again' && attempt === 1) throw new Error('Again')
          if (payload.word === 'cancel') {
            running.resolve()
            await once(signal, 'abort')
          }
        },
      },
      'word.batch': {
        settle: async (trx, all) => {
          if (all.some(({ payload }) => payload.word === 'poison')) throw new JobFailed('no', 'No')
          if (all.some(({ payload }) => payload.word === 'stolen')) {
            await sql`update accepted_queue.job set retry_count = retry_count + 1 where data -> 'payload' ->> 'word' = 'stolen'`.execute(
              trx,
            )
          }
        },
      },
    }),
  )
  const url = await serve(t, () => worker)
  const first = await jobs.add(word, { word: 'x' }, { runAt: new Date(Date.now() - 20_000) })
  await jobs.ended(first)
  for (const one of ['fail', 'again']) await jobs.ended(await jobs.add(word, { word: one }))
  const canceled = await jobs.add(word, { word: 'cancel' })
  await running.promise
  await jobs.query('update accepted.job set cancel_requested = true where id = $1', [canceled])
  await jobs.ended(canceled)

  const attempts = (operation: string, outcome: string) =>
    metric(url, `accepted_attempts_total{operation="${operation}",outcome="${outcome}"}`)
  await until(async () => (await attempts('word.say', 'canceled')) === 1)
  t.equal(await attempts('word.say', 'succeeded'), 2)
  t.equal(await attempts('word.say', 'failed'), 1)
  t.equal(await attempts('word.say', 'retried'), 1)
  const label = '{operation="word.say"}'
  await until(async () => (await metric(url, `accepted_attempt_duration_seconds_count${label}`)) === 5)
  t.ok(((await metric(url, `accepted_job_wait_seconds_count${label}`)) ?? 0) >= 1)
  t.ok(((await metric(url, `accepted_job_wait_seconds_sum${label}`)) ?? 0) >= 20)
  for (const series of ['accepted_pool_connections', 'process_cpu_seconds_total'])
    t.ok(await metric(url, series), series)
  t.match((await get(`${url}/metrics`)).headers.get('content-type'), 'text/plain; version=0.0.4')

  await jobs.database.kysely.transaction().execute(async (trx) => {
    const { enqueue } = await import('../../src/jobs/enqueue.ts')
    const { v7: uuid7 } = await import('uuid')
    const all = ['a', 'b', 'poison'].map((text) => ({ word: text }))
    await enqueue(
      jobs.boss,
      trx,
      all.map((payload) => ({ id: uuid7(), operation: batch, payload, principal: 'ann' })),
    )
  })
  await until(async () => (await attempts('word.batch', 'succeeded')) === 2)
  await until(async () => (await attempts('word.batch', 'failed')) === 1)
  t.ok(((await metric(url, 'accepted_transactions_retried_total{operation="word.batch",reason="bisected"}')) ?? 0) >= 1)
  await jobs.add(batch, { word: 'stolen' })
  await until(async () => (await attempts('word.batch', 'lost')) === 1)
})

t.test(
  'metrics show the backlog and its age, released jobs, and transactions retried after contention or an outage',
  async (t) => {
    const jobs = await openJobs(t, [word, batch])
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
    const url = await serve(t, () => worker)
    const held = await jobs.add(word, { word: 'held' })
    await until(async () => (await metric(url, 'accepted_jobs_running{operation="word.say"}')) === 1)
    await jobs.add(word, { word: 'waits' }, { runAt: new Date(Date.now() - 100_000) })
    await jobs.add(word, { word: 'deferred' }, { runAt: new Date(Date.now() + 100_000) })
    await until(async () => (await metric(url, 'accepted_jobs_ready{operation="word.say"}')) === 1)
    t.ok(((await metric(url, 'accepted_oldest_ready_job_age_seconds{operation="word.say"}')) ?? 0) > 99)
    t.equal(await metric(url, 'accepted_oldest_ready_job_age_seconds{operation="word.batch"}'), 0)

    await jobs.ended(await jobs.add(batch, { word: 'x' }))
    for (const reason of ['contention', 'outage']) {
      t.equal(await metric(url, `accepted_transactions_retried_total{operation="word.batch",reason="${reason}"}`), 1)
    }
    await worker.stop()
    t.match(await jobs.read(held), { status: 'queued' })
    t.equal(await metric(url, 'accepted_attempts_total{operation="word.say",outcome="released"}'), 1)
  },
)
