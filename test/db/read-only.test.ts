import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { serveHealth } from 'accepted/worker'
import t, { type Test } from 'tap'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { ended, get, post } from '../support/client.ts'
import { queryOnce } from '../support/database.ts'
import { until } from '../support/until.ts'
import { createTables, startApi, startWorker } from './main-flow.ts'

/** Starts a server of its own, because a setting of the whole server would disturb other tests. */
async function startServer(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-read-only-'))
  const server = await startEmbeddedPostgres({ dataDir: join(directory, 'data') })
  t.teardown(async () => {
    await server.stop('immediate')
    await rm(directory, { recursive: true, force: true })
  })
  await migrate({ url: server.url })
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
