import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { ended, get, post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { findBlockedBackends } from '../support/database.ts'
import { start } from '../support/program.ts'
import { startReceiver, verify } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { config, createFixtureDatabase } from './fixtures/database.ts'

const tls = join(import.meta.dirname, '../support/tls')
const certificate = join(tls, 'localhost.crt')

async function setUp(t: Test) {
  const { databaseUrl, database } = await createFixtureDatabase(t)
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
        "select id, status from accepted.job where operation = 'webhook.deliver' order by id",
      )
      return rows
    },
  }
}

t.test('a webhook over TLS contains the monitor of the job', async (t) => {
  const { api, startWorker, register } = await setUp(t)
  const [key, cert] = [readFileSync(join(tls, 'localhost.key'), 'utf8'), readFileSync(certificate, 'utf8')]
  const receiver = await startReceiver(t, { tls: { key, cert } })
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

t.test('when a worker is killed before it commits, only one webhook is delivered for the job', async (t) => {
  const { api, databaseUrl, startWorker, register, deliveries } = await setUp(t)
  const receiver = await startReceiver(t)
  await register(receiver.url)
  // A deferred trigger blocks the commit after the delivery has been enqueued.
  const gate = new pg.Client({ connectionString: databaseUrl })
  await gate.connect()
  t.teardown(() => gate.end())
  await gate.query(`
    create function wait_at_gate() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock_shared(7); return null; end $$;
    create constraint trigger wait_at_gate after update on accepted.job deferrable initially deferred
      for each row when (new.status = 'succeeded' and new.operation = 'note.create') execute function wait_at_gate();
    select pg_advisory_lock(7);`)
  const doomed = await startWorker()
  const { body } = await post(`${api.url}/notes`, { text: 'x' })
  const query = async (text: string, values?: unknown[]) => (await gate.query(text, values)).rows
  await until(async () => (await findBlockedBackends(query)).length > 0)
  await doomed.end('SIGKILL')
  await gate.query('select pg_advisory_unlock(7)')
  t.same(await deliveries(), [], 'the delivery was rolled back with the settle')
  await startWorker()
  t.match(await ended(body.links.self), { status: 'succeeded', attempt: 2 })
  await receiver.arrived(1)
  await until(async () => (await deliveries()).every(({ status }) => status === 'succeeded'))
  t.equal((await deliveries()).length, 1)
  t.equal(receiver.received.length, 1)
})

t.test('a canceled job and its retry each send a webhook to the endpoint that the first request named', async (t) => {
  const { api, startWorker, register } = await setUp(t)
  const receiver = await startReceiver(t)
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
