import { once } from 'node:events'
import { createServer } from 'node:net'
import { defineOperation } from 'accepted'
import { serveHealth, type Worker } from 'accepted/worker'
import t, { type Test } from 'tap'
import { get } from '../support/client.ts'
import { openJobs } from '../support/jobs.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { handlersFor, readSeries, Word } from './support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

async function serve(t: Test, worker: () => Worker | undefined): Promise<string> {
  const server = await serveHealth('127.0.0.1', 0, worker)
  t.teardown(() => server.close())
  return `http://127.0.0.1:${server.port}`
}

/** Reads the metrics. Returns the value of a series, or undefined if the series is missing. */
const scrape = async (url: string, series: string) => readSeries((await get(`${url}/metrics`)).body, series)

t.test('a worker is starting, then ready, then draining, and live all the time', async (t) => {
  const jobs = await openJobs(t, [say])
  let worker: Worker | undefined
  const url = await serve(t, () => worker)
  t.match(await get(`${url}/health/ready`), { status: 503, body: { status: 'starting' } })
  t.match(await get(`${url}/metrics`), { status: 503, body: { error: { code: 'starting' } } })
  const mayEnd = Promise.withResolvers<void>()
  worker = await jobs.work(handlersFor(say, { perform: () => mayEnd.promise }), { graceSeconds: 30 })
  t.match(await get(`${url}/health/ready`), { status: 200, body: { status: 'ready' } })
  t.match((await get(`${url}/metrics`)).headers.get('content-type'), 'text/plain; version=0.0.4')
  await jobs.add(say, { word: 'x' })
  await until(async () => (await scrape(url, 'accepted_jobs_running{operation="word.say"}')) === 1)
  const stopped = worker.stop()
  t.match(await get(`${url}/health/ready`), { status: 503, body: { status: 'draining' } })
  t.match(await get(`${url}/health/live`), { status: 200, body: { status: 'live' } })
  mayEnd.resolve()
  await stopped
})

t.test('HEAD gets the same status and headers as GET; unknown paths and methods get problem details', async (t) => {
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

t.test('with a token, the metrics of a worker need it, and health does not', async (t) => {
  const metricsToken = 'a-token-for-prometheus'
  const server = await serveHealth('127.0.0.1', 0, () => undefined, { metricsToken })
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${server.port}`
  const refused = await get(`${url}/metrics`)
  t.match(refused, { status: 401, body: { error: { code: 'unauthenticated' } } })
  t.equal(refused.headers.get('www-authenticate'), 'Bearer')
  t.equal((await get(`${url}/metrics`, { authorization: 'Bearer wrong' })).status, 401)
  t.match(await get(`${url}/metrics`, { authorization: `Bearer ${metricsToken}` }), {
    body: { error: { code: 'starting' } },
  })
  t.equal((await get(`${url}/health/live`)).status, 200)
})

t.test('a worker is not ready while Postgres is unreachable, and is ready again afterwards', async (t) => {
  const jobs = await openJobs(t, [say])
  const proxy = await startProxy(t, jobs.database.options.url)
  const worker = await jobs.work(handlersFor(say, { perform: async () => {} }), { database: proxy.url })
  const url = await serve(t, () => worker)
  await until(async () => (await scrape(url, 'accepted_listener_up')) === 1)
  t.equal(await scrape(url, 'accepted_jobs_ready{operation="word.say"}'), 0)
  await proxy.close()
  await until(async () => (await get(`${url}/health/ready`)).body.status === 'database-unreachable')
  t.match(await get(`${url}/health/ready`), { status: 503 })
  t.equal((await get(`${url}/health/live`)).status, 200)
  t.equal(await scrape(url, 'accepted_listener_up'), 0)
  await until(async () => (await scrape(url, 'accepted_jobs_ready{operation="word.say"}')) === undefined)
  await proxy.open()
  await until(async () => (await get(`${url}/health/ready`)).status === 200)
  await until(async () => (await scrape(url, 'accepted_listener_up')) === 1)
})

t.test('a Postgres that never answers counts as unreachable, and the metrics can still be read', async (t) => {
  const jobs = await openJobs(t, [say])
  const proxy = await startProxy(t, jobs.database.options.url)
  const worker = await jobs.work(handlersFor(say, { perform: async () => {} }), { database: proxy.url })
  const url = await serve(t, () => worker)
  await proxy.close()
  const unresponsive = createServer(() => {}).listen(Number(new URL(proxy.url).port), '127.0.0.1')
  await once(unresponsive, 'listening')
  t.teardown(() => unresponsive.close())
  await until(async () => (await get(`${url}/health/ready`)).body.status === 'database-unreachable')
  t.equal((await get(`${url}/metrics`)).status, 200)
})
