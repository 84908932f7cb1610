import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { ended, get, post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { createDatabase } from '../support/database.ts'
import { freePort, start } from '../support/program.ts'
import { receive, verify } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { schema } from './fixtures/operations.ts'

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')
const tls = join(import.meta.dirname, '../support/tls')
const certificate = join(tls, 'localhost.crt')

async function setUp(t: Test) {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  const api = await start(t, 'api', { config, databaseUrl })
  const env = { PUBLIC_URL: api.url, WEBHOOK_ALLOW: '127.0.0.0/8, ::1', NODE_EXTRA_CA_CERTS: certificate }
  return {
    api,
    databaseUrl,
    startWorker: () => start(t, 'worker', { config, databaseUrl, env }),
    async register(url: string) {
      const { out } = await run(['webhooks', 'add', url, '--json'], { DATABASE_URL: databaseUrl })
      return JSON.parse(out) as { id: string; secret: string }
    },
    async deliveries() {
      const { rows } = await database.pool.query(
        "select id, state from accepted.job where operation = 'webhook.deliver' order by id",
      )
      return rows
    },
  }
}

t.test('an endpoint is told over TLS what the monitor says, and which job it was', async (t) => {
  const { api, startWorker, register } = await setUp(t)
  const [key, cert] = [readFileSync(join(tls, 'localhost.key'), 'utf8'), readFileSync(certificate, 'utf8')]
  const receiver = await receive(t, { tls: { key, cert } })
  const { secret } = await register(receiver.url)
  await startWorker()
  const { body } = await post(`${api.url}/notes/performed`, { text: 'four' })
  const monitor = await ended(body.links.self)
  const [request] = await receiver.arrived(1)
  if (!request) return t.fail()
  const event = verify(request, secret)
  t.match(event, { type: 'job.succeeded', subject: body.id, source: `${api.url}/jobs` })
  t.same(event.data, monitor)
})

t.test('a worker that is killed before its commit: one delivery, by the worker that settles the job', async (t) => {
  const { api, databaseUrl, startWorker, register, deliveries } = await setUp(t)
  const receiver = await receive(t)
  await register(receiver.url)
  // The settle stops at its very end, when the delivery has been enqueued.
  const gate = new pg.Client({ connectionString: databaseUrl })
  await gate.connect()
  t.teardown(() => gate.end())
  await gate.query(`
    create function wait_at_gate() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock_shared(7); return null; end $$;
    create constraint trigger wait_at_gate after update on accepted.job deferrable initially deferred
      for each row when (new.state = 'succeeded' and new.operation = 'note.create') execute function wait_at_gate();
    select pg_advisory_lock(7);`)
  const doomed = await startWorker()
  const { body } = await post(`${api.url}/notes`, { text: 'x' })
  await until(async () => {
    const { rows } = await gate.query(
      "select from pg_stat_activity where wait_event = 'advisory' and pid <> pg_backend_pid()",
    )
    return rows.length > 0
  })
  await doomed.end('SIGKILL')
  await gate.query('select pg_advisory_unlock(7)')
  t.same(await deliveries(), [], 'what was not committed is not there')
  await startWorker()
  t.match(await ended(body.links.self), { status: 'succeeded', attempt: 2 })
  await receiver.arrived(1)
  await until(async () => (await deliveries()).every(({ state }) => state === 'succeeded'))
  t.equal((await deliveries()).length, 1)
  t.equal(receiver.received.length, 1)
})

t.test('a canceled job is told as canceled, and its retry tells the same endpoint', async (t) => {
  const { api, startWorker, register } = await setUp(t)
  const receiver = await receive(t)
  const { id, secret } = await register(receiver.url)
  await register('http://127.0.0.1:9/hook')
  const { body } = await post(`${api.url}/notes`, { text: 'x' }, { 'accepted-webhook': id })
  t.equal((await post(body.links.cancel, {})).status, 200)
  const retried = await post(body.links.retry, {})
  t.equal(retried.status, 202)
  await startWorker()
  const events = (await receiver.arrived(2)).map((request) => verify(request, secret))
  t.same(
    events.map(({ type, subject }) => [type, subject]).sort(),
    [
      ['job.canceled', body.id],
      ['job.succeeded', retried.body.id],
    ].sort(),
  )
  const canceled = events.find(({ subject }) => subject === body.id)
  t.same(canceled?.data, (await get(body.links.self)).body)
})

t.test('the receiver of the README verifies what it is sent, and nothing else', async (t) => {
  const { api, startWorker, register } = await setUp(t)
  const port = await freePort()
  const { secret } = await register(`http://127.0.0.1:${port}/`)
  const [, code] = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8').match(
    /```js\n(\/\/ receiver\.js\n[\s\S]*?)```/,
  ) as RegExpMatchArray
  const directory = t.testdir({ 'receiver.mjs': code as string })
  const receiver = spawn(process.execPath, [join(directory, 'receiver.mjs')], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, SECRET: secret, PORT: String(port) },
  })
  t.teardown(() => receiver.kill('SIGKILL'))
  let printed = ''
  receiver.stdout.on('data', (chunk) => {
    printed += chunk
  })
  const forge = () => post(`http://127.0.0.1:${port}/`, {}, { 'webhook-id': 'x' }).catch(() => undefined)
  t.equal((await until(forge)).status, 401)
  await startWorker()
  const { body } = await post(`${api.url}/notes`, { text: 'x' })
  await until(() => printed.includes('\n'))
  t.equal(printed, `job.succeeded ${body.links.self}\n`)
})
