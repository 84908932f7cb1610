import { once } from 'node:events'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { ended, get, post } from '../support/client.ts'
import { freePort, type Program, start } from '../support/program.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { config, createFixtureDatabase } from './fixtures/database.ts'

// The tests mostly wait for grace periods and overdue heartbeats, so the tests run in parallel.
t.jobs = 3

async function startApi(t: Test) {
  const { databaseUrl } = await createFixtureDatabase(t)
  return start(t, 'api', { config, databaseUrl })
}

/** Sends a signal repeatedly until the process exits. */
async function signalUntilExit(program: Program, signal: NodeJS.Signals): Promise<number | null> {
  const { process: child } = program
  await until(() => {
    child.kill(signal)
    return child.exitCode !== null || child.signalCode !== null
  })
  return child.exitCode
}

t.test('a stopping API answers long polls, ends event streams and closes unused connections', async (t) => {
  const api = await startApi(t)
  const { body } = await post(`${api.url}/notes`, { text: 'x' })

  // Browsers open connections before they need them.
  const unused = connect(Number(new URL(api.url).port), '127.0.0.1')
  let received = ''
  unused.on('data', (chunk) => {
    received += chunk
  })
  await once(unused, 'connect')
  const poll = get(body.links.self, { prefer: 'wait=55' })
  const stream = await fetch(body.links.events)
  await until(async () => (await get(`${api.url}/metrics`)).body.includes('accepted_watched_jobs 1\n'))

  t.equal(await api.end('SIGTERM'), 0)
  t.match(await poll, { status: 200, body: { status: 'queued' } })
  t.match(await stream.text(), /^retry: 3000\n\nevent: status\n.*\n\nretry: \d+\n\n$/s)
  t.equal(received, '', 'the unused connection was closed at once, because a timeout would have sent a 408')
})

for (const [part, incomplete] of [
  ['header section', 'POST /notes HTTP/1.1\r\nHost: localhost\r\n'],
  [
    'body',
    'POST /notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"t',
  ],
]) {
  t.test(`a stopping API sends a 408 for a request whose ${part} is incomplete`, async (t) => {
    const api = await startApi(t)
    const client = connect(Number(new URL(api.url).port), '127.0.0.1')
    t.teardown(() => client.destroy())
    let received = ''
    client.on('data', (chunk) => {
      received += chunk
    })
    // When the API has answered the first request, it has also read the incomplete second request.
    client.write(`GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n${incomplete}`)
    await until(() => received.includes('live'))
    t.equal(await api.end('SIGTERM'), 0)
    await until(() => client.destroyed)
    t.match(received, /\r\n\r\n{"status":"live"}HTTP\/1\.1 408 /)
  })
}

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  t.test(`after a second ${signal}, an API and a worker exit at once with code 1`, async (t) => {
    const { databaseUrl } = await createFixtureDatabase(t)
    const env = { GRACE_SECONDS: '3600', HANG: 'perform' }
    const api = await start(t, 'api', { config, databaseUrl, env })
    const worker = await start(t, 'worker', { config, databaseUrl, env })
    const performing = once(worker.process, 'message')
    await post(`${api.url}/notes/performed`, { text: 'x' })
    await performing
    const accepting = once(api.process, 'message')
    const answer = post(`${api.url}/notes`, { text: 'hang in accept' }).catch(() => 'none')
    await accepting
    t.same(await Promise.all([signalUntilExit(api, signal), signalUntilExit(worker, signal)]), [1, 1])
    t.equal(await answer, 'none')
  })
}

t.test('an API with a hanging request exits with an error after its grace period, and stores nothing', async (t) => {
  const { database, databaseUrl } = await createFixtureDatabase(t)
  const api = await start(t, 'api', { config, databaseUrl, env: { GRACE_SECONDS: '0' } })
  const accepting = once(api.process, 'message')
  const answer = post(`${api.url}/notes`, { text: 'hang in accept' }).catch(() => 'none')
  await accepting
  t.equal(await api.end('SIGTERM'), 1)
  t.match(api.output(), 'error: The process did not stop within GRACE_SECONDS=0')
  t.equal(await answer, 'none')
  t.same((await database.pool.query('select from accepted.job')).rows, [])
})

for (const [subject, path, hangIn] of [
  ['the settle of a batch', '/notes', 'settle'],
  ['the settle of a performed job', '/notes/performed', 'settle'],
  ['a perform that ignores its signal', '/notes/performed', 'perform'],
] as const) {
  t.test(`a worker stops after its grace period even if ${subject} hangs, and releases the job`, async (t) => {
    const { database, databaseUrl } = await createFixtureDatabase(t)
    const api = await start(t, 'api', { config, databaseUrl })
    const env = { HANG: hangIn, GRACE_SECONDS: '0' }
    const worker = await start(t, 'worker', { config, databaseUrl, env })
    const hanging = once(worker.process, 'message')
    const { body } = await post(api.url + path, { text: 'x' })
    await hanging
    t.equal(await worker.end('SIGTERM'), 0)
    t.match((await get(body.links.self)).body, { status: 'queued' })
    const queued = await database.pool.query('select state::text, retry_count from accepted_queue.job')
    t.same(queued.rows, [{ state: 'created', retry_count: 0 }])

    await start(t, 'worker', { config, databaseUrl })
    t.match(await ended(body.links.self), { status: 'succeeded', attempt: 1 })
    t.same((await database.pool.query('select job_id from effect')).rows, [{ job_id: body.id }])
  })
}

t.test('a worker in the API process runs jobs, and releases its running jobs when the process stops', async (t) => {
  const { database, databaseUrl } = await createFixtureDatabase(t)
  const WORKER_PORT = String(await freePort())
  const env = { WORKER_PORT, HANG: 'perform', GRACE_SECONDS: '0' }
  const api = await start(t, 'api', { config, databaseUrl, args: ['--with-worker'], env })
  const performing = once(api.process, 'message')
  t.match(await ended((await post(`${api.url}/notes`, { text: 'x' })).body.links.self), { status: 'succeeded' })
  const { body } = await post(`${api.url}/notes/performed`, { text: 'x' })
  await performing
  t.equal((await get(`http://127.0.0.1:${WORKER_PORT}/health/ready`)).status, 200)
  t.equal(await api.end('SIGTERM'), 0)
  const { rows } = await database.pool.query('select status, attempt from accepted.job where id = $1', [body.id])
  t.match(rows, [{ status: 'queued' }])
  const queued = await database.pool.query('select retry_count from accepted_queue.job where id = $1', [body.id])
  t.same(queued.rows, [{ retry_count: 0 }])
})

for (const [outage, cut] of [
  ['refuses connections', 'close'],
  ['does not respond', 'freeze'],
] as const) {
  t.test(`an API and a worker stop in time while Postgres ${outage}, and the job runs again later`, async (t) => {
    const { databaseUrl } = await createFixtureDatabase(t)
    const proxy = await startProxy(t, databaseUrl)
    const doomed = { config, databaseUrl: proxy.url, env: { HANG: 'perform', GRACE_SECONDS: '0' } }
    const api = await start(t, 'api', doomed)
    const worker = await start(t, 'worker', doomed)
    const performing = once(worker.process, 'message')
    const { body } = await post(`${api.url}/notes/performed`, { text: 'x' })
    await performing
    await proxy[cut]()
    t.equal(await worker.end('SIGTERM'), 0)
    t.type(await api.end('SIGTERM'), 'number')

    const again = await start(t, 'api', { config, databaseUrl })
    await start(t, 'worker', { config, databaseUrl })
    t.match(await ended(`${again.url}/jobs/${body.id}`), { status: 'succeeded' })
  })
}

for (const command of ['api', 'worker'] as const) {
  t.test(`the ${command} process stops with exit code 0 even if its output streams have been closed`, async (t) => {
    const { databaseUrl } = await createFixtureDatabase(t)
    const program = await start(t, command, { config, databaseUrl, env: { LOG_LEVEL: 'trace' } })
    for (const stream of [program.process.stdout, program.process.stderr]) stream?.destroy()
    // Each request writes to the log.
    for (let times = 0; times < 5; times++) await get(`${program.url}/health/ready`)
    t.equal(await program.end('SIGTERM'), 0)
  })
}
