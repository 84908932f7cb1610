import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { ended, get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { freePort, type Program, start } from '../support/program.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { schema } from './fixtures/operations.ts'

// Most of the time is spent waiting for graces to end, and for heartbeats that do not come.
t.jobs = 3

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')

/** A database of the test's own, with the tables of the fixture. */
async function setUp(t: Test) {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  return { database, databaseUrl }
}

/** Starts an API on a database of its own. */
async function startApi(t: Test, env: NodeJS.ProcessEnv = {}) {
  const { databaseUrl } = await setUp(t)
  return start(t, 'api', { config, databaseUrl, env })
}

/** Asks again and again, as somebody would who is tired of waiting. */
async function insist(program: Program, signal: NodeJS.Signals): Promise<number | null> {
  const { process: child } = program
  await until(() => {
    child.kill(signal)
    return child.exitCode !== null || child.signalCode !== null
  })
  return child.exitCode
}

t.test('an API that is asked to stop answers who waits, and waits for nobody', async (t) => {
  const api = await startApi(t)
  const { body } = await post(`${api.url}/notes`, { text: 'x' })

  // A browser opens some ahead of need.
  const unused = connect(Number(new URL(api.url).port), '127.0.0.1')
  let said = ''
  unused.on('data', (chunk) => {
    said += chunk
  })
  await once(unused, 'connect')
  const poll = get(body.links.self, { prefer: 'wait=55' })
  const stream = await fetch(body.links.events)
  await until(async () => (await get(`${api.url}/metrics`)).body.includes('accepted_watched_jobs 1\n'))

  t.equal(await api.end('SIGTERM'), 0)
  t.match(await poll, { status: 200, body: { status: 'queued' } })
  t.match(await stream.text(), /^retry: 3000\n\nevent: status\n.*\n\nretry: \d+\n\n$/s)
  t.equal(said, '', 'it was not kept until its time was over, which would be told it')
})

for (const [what, half] of [
  ['header section', 'POST /notes HTTP/1.1\r\nHost: x\r\n'],
  ['body', 'POST /notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"t'],
]) {
  t.test(`an API that is asked to stop does not wait for ever for the rest of a ${what}`, async (t) => {
    const api = await startApi(t)
    const client = connect(Number(new URL(api.url).port), '127.0.0.1')
    t.teardown(() => client.destroy())
    let said = ''
    client.on('data', (chunk) => {
      said += chunk
    })
    // Once it has answered the first, it has read of the second what there is.
    client.write(`GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n${half}`)
    await until(() => said.includes('live'))
    t.equal(await api.end('SIGTERM'), 0)
    await until(() => client.destroyed)
    t.match(said, /\r\n\r\n{"status":"live"}HTTP\/1\.1 408 /)
  })
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`a second ${signal} ends an API and a worker at once, whatever they wait for`, async (t) => {
    const { databaseUrl } = await setUp(t)
    const env = { GRACE_SECONDS: '3600', HANG: 'perform' }
    const api = await start(t, 'api', { config, databaseUrl, env })
    const worker = await start(t, 'worker', { config, databaseUrl, env })
    const performing = once(worker.process, 'message')
    await post(`${api.url}/notes/performed`, { text: 'x' })
    await performing
    const accepting = once(api.process, 'message')
    const answer = post(`${api.url}/notes`, { text: 'hang in accept' }).catch(() => 'none')
    await accepting
    t.same(await Promise.all([insist(api, signal), insist(worker, signal)]), [1, 1])
    t.equal(await answer, 'none')
  })
}

t.test('an API whose request hangs ends some seconds after its grace, says so, and leaves nothing', async (t) => {
  const { database, databaseUrl } = await setUp(t)
  const api = await start(t, 'api', { config, databaseUrl, env: { GRACE_SECONDS: '0' } })
  const accepting = once(api.process, 'message')
  const answer = post(`${api.url}/notes`, { text: 'hang in accept' }).catch(() => 'none')
  await accepting
  t.equal(await api.end('SIGTERM'), 1)
  t.match(api.output(), 'error: What ran did not end within GRACE_SECONDS=0')
  t.equal(await answer, 'none')
  t.same((await database.pool.query('select from accepted.job')).rows, [])
})

for (const [what, path, hang] of [
  ['the settle of a batch', '/notes', 'settle'],
  ['the settle of a performed job', '/notes/performed', 'settle'],
  ['a perform that ignores its signal', '/notes/performed', 'perform'],
] as const) {
  t.test(`a worker ends after its grace though ${what} hangs, and hands the job back unspent`, async (t) => {
    const { database, databaseUrl } = await setUp(t)
    const api = await start(t, 'api', { config, databaseUrl })
    const env = { HANG: hang, GRACE_SECONDS: '0' }
    const worker = await start(t, 'worker', { config, databaseUrl, env })
    const hanging = once(worker.process, 'message')
    const { body } = await post(api.url + path, { text: 'x' })
    await hanging
    t.equal(await worker.end('SIGTERM'), 0)
    t.match((await get(body.links.self)).body, { status: 'queued' })
    const queued = await database.pool.query('select state::text, retry_count from pgboss.job')
    t.same(queued.rows, [{ state: 'created', retry_count: 0 }])

    await start(t, 'worker', { config, databaseUrl })
    t.match(await ended(body.links.self), { status: 'succeeded', attempt: 1 })
    t.same((await database.pool.query('select job_id from effect')).rows, [{ job_id: body.id }])
  })
}

t.test('a worker in the process of the API performs, and hands back when that is asked to stop', async (t) => {
  const { database, databaseUrl } = await setUp(t)
  const WORKER_PORT = String(await freePort())
  const env = { WORKER_PORT, HANG: 'perform', GRACE_SECONDS: '0' }
  const api = await start(t, 'api', { config, databaseUrl, args: ['--with-worker'], env })
  const performing = once(api.process, 'message')
  t.match(await ended((await post(`${api.url}/notes`, { text: 'x' })).body.links.self), { status: 'succeeded' })
  const { body } = await post(`${api.url}/notes/performed`, { text: 'x' })
  await performing
  t.equal((await get(`http://127.0.0.1:${WORKER_PORT}/health/ready`)).status, 200)
  t.equal(await api.end('SIGTERM'), 0)
  const { rows } = await database.pool.query('select state, attempt from accepted.job where id = $1', [body.id])
  t.match(rows, [{ state: 'queued' }])
  const queued = await database.pool.query('select retry_count from pgboss.job where id = $1', [body.id])
  t.same(queued.rows, [{ retry_count: 0 }])
})

for (const [what, cut] of [
  ['is away', 'close'],
  ['does not answer', 'freeze'],
] as const) {
  t.test(`an API and a worker end in time though Postgres ${what}, and the job runs again`, async (t) => {
    const { databaseUrl } = await setUp(t)
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
  t.test(`a ${command} process whose output nobody reads any more ends all the same`, async (t) => {
    const { databaseUrl } = await setUp(t)
    const program = await start(t, command, { config, databaseUrl, env: { LOG_LEVEL: 'trace' } })
    for (const stream of [program.process.stdout, program.process.stderr]) stream?.destroy()
    // Something to say.
    for (let times = 0; times < 5; times++) await get(`${program.url}/health/ready`)
    t.equal(await program.end('SIGTERM'), 0)
  })
}
