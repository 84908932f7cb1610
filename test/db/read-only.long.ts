import { execFileSync } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { serveHealth } from 'accepted/worker'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { ended, get, post } from '../support/client.ts'
import { asRole, createTestRoles, queryOnce } from '../support/database.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { createTables, startApi, startWorker } from './main-flow.ts'

/** Starts a server of its own, because a setting of the whole server would disturb other tests. */
async function startServer(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-read-only-'))
  // When root runs the tests, Postgres runs as another user. That user needs access.
  await chmod(directory, 0o755)
  const server = await startEmbeddedPostgres({ dataDir: join(directory, 'data') })
  t.teardown(async () => {
    await server.stop('immediate')
    await rm(directory, { recursive: true, force: true })
  })
  await createTestRoles(server.url)
  await migrate({ url: asRole(server.url, 'migrate') })
  await queryOnce(server.url, createTables)
  return server.url
}

t.test('when the server becomes read-only, readiness says so; the pools then move to a writable server', async (t) => {
  const databaseUrl = await startServer(t)
  const worker = await startWorker(t, databaseUrl)
  const health = await serveHealth('127.0.0.1', 0, () => worker)
  t.teardown(() => health.close())
  const workerReady = `http://127.0.0.1:${health.port}/health/ready`
  const { url } = await startApi(t, databaseUrl)
  t.equal((await ended((await post(`${url}/words`, { word: 'before' })).body.links.self)).status, 'succeeded')
  t.equal((await get(`${url}/health/ready`)).status, 200)
  t.match(await get(workerReady), { status: 200, body: { status: 'ready' } })

  await queryOnce(databaseUrl, 'alter system set default_transaction_read_only = on')
  await queryOnce(databaseUrl, 'select pg_reload_conf()')
  await until(async () => (await get(`${url}/health/ready`)).status === 503)
  t.match((await get(`${url}/health/ready`)).body.error, {
    code: 'database-unavailable',
    message: 'The database is read-only',
  })
  await until(async () => (await get(workerReady)).body.status === 'database-read-only')
  t.match(await post(`${url}/words`, { word: 'during' }), {
    status: 503,
    body: { error: { code: 'database-unavailable' } },
  })

  // Now a new connection accepts writes, and an old connection still does not, as after a failover by DNS.
  await queryOnce(
    databaseUrl,
    'begin read write; alter database accepted set default_transaction_read_only = off; commit',
  )
  const [{ now }] = await queryOnce(databaseUrl, 'select now()')
  const accepted = await until(async () => {
    const answer = await post(`${url}/words`, { word: 'after' })
    return answer.status === 202 && answer
  })
  t.equal((await ended(accepted.body.links.self)).status, 'succeeded')
  await until(async () => (await get(`${url}/health/ready`)).status === 200)
  await until(async () => (await get(workerReady)).body.status === 'ready')
  const readOld = () =>
    queryOnce(
      databaseUrl,
      `select application_name from pg_stat_activity
      where application_name like 'accepted %' and backend_start < $1`,
      [now],
    )
  await until(async () => (await readOld()).length === 0)
  t.same(await readOld(), [], 'no connection is left from before, the listeners included')
})

/** Starts API and worker, and returns what tells how they are. */
async function startBoth(t: Test, databaseUrl: string) {
  const worker = await startWorker(t, databaseUrl)
  const health = await serveHealth('127.0.0.1', 0, () => worker)
  t.teardown(() => health.close())
  const { url } = await startApi(t, databaseUrl)
  const readiness = async () => [
    (await get(`${url}/health/ready`)).status,
    (await get(`http://127.0.0.1:${health.port}/health/ready`)).body.status,
  ]
  const submit = () => post(`${url}/words`, { word: 'x' })
  const are = (...expected: unknown[]) => until(async () => `${await readiness()}` === `${expected}`)
  const succeeds = async () => {
    const { body } = await until(async () => {
      const answer = await submit()
      return answer.status === 202 && answer
    })
    t.equal((await ended(body.links.self)).status, 'succeeded')
  }
  return { submit, are, succeeds }
}

t.test('when the same server accepts writes again, readiness says so', async (t) => {
  const databaseUrl = await startServer(t)
  const { submit, are, succeeds } = await startBoth(t, databaseUrl)
  await are(200, 'ready')
  const set = async (change: string) => {
    const session = new pg.Client({ connectionString: databaseUrl })
    await session.connect()
    await session.query('set session characteristics as transaction read write')
    await session.query(`alter system ${change}`)
    await session.query('select pg_reload_conf()')
    await session.end()
  }
  await set('set default_transaction_read_only = on')
  await are(503, 'database-read-only')
  t.equal((await submit()).status, 503)
  await set('reset default_transaction_read_only')
  await are(200, 'ready')
  await succeeds()
})

t.test('after a failover to a standby, API and worker wait until it is promoted', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-failover-'))
  // When root runs the tests, Postgres runs as another user. That user needs access.
  await chmod(directory, 0o755)
  const start = (name: string, settings = {}) => startEmbeddedPostgres({ dataDir: join(directory, name), settings })
  const first = await start('primary')
  await createTestRoles(first.url)
  await migrate({ url: asRole(first.url, 'migrate') })
  await queryOnce(first.url, createTables)
  await first.stop()
  execFileSync('cp', ['-a', join(directory, 'primary'), join(directory, 'standby')])
  await writeFile(join(directory, 'standby', 'postgres', 'standby.signal'), '')
  const primary = await start('primary')
  const { port, username, password } = new URL(primary.url)
  const primary_conninfo = `host=127.0.0.1 port=${port} user=${username} password=${password}`
  const standby = await start('standby', { primary_conninfo })
  t.teardown(async () => {
    await Promise.all([primary.stop('immediate'), standby.stop('immediate')])
    await rm(directory, { recursive: true, force: true })
  })
  const proxy = await startProxy(t, primary.url)
  const { submit, are, succeeds } = await startBoth(t, proxy.url)
  await are(200, 'ready')
  await succeeds()

  const [{ lsn }] = await queryOnce(primary.url, 'select pg_current_wal_insert_lsn() as lsn')
  const hasReplayed = 'select pg_last_wal_replay_lsn() >= $1 as has_replayed'
  await until(async () => (await queryOnce(standby.url, hasReplayed, [lsn]))[0].has_replayed)
  await proxy.close()
  proxy.switchTo(standby.url)
  await proxy.open()
  await are(503, 'database-read-only')
  t.match(await submit(), { status: 503, body: { error: { code: 'database-unavailable' } } })
  await queryOnce(standby.url, 'select pg_promote()')
  await are(200, 'ready')
  await succeeds()
})
