import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { Limits } from '../../src/doctor/limits.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { run } from '../support/command.ts'
import { queryOnce } from '../support/database.ts'
import { until } from '../support/until.ts'
import { type Condition, checkCondition, findingsAt } from './support.ts'

// A server of its own, because settings of the whole server would disturb other tests.
const directory = await mkdtemp(join(tmpdir(), 'accepted-doctor-'))
// When root runs the tests, Postgres runs as another user. That user needs access.
await chmod(directory, 0o755)
const start = () =>
  startEmbeddedPostgres({
    dataDir: join(directory, 'data'),
    settings: { wal_level: 'logical', max_prepared_transactions: '2' },
  })
let server: EmbeddedPostgres = await start()
t.teardown(async () => {
  await server.stop('immediate')
  await rm(directory, { recursive: true, force: true })
})
const { url } = server
await migrate({ url })

async function connectTo(t: Test, config: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, ...config })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** The options that report problems of a size that a test can make. */
const withLimits = (limits: Partial<Limits>) => ({ options: { limits } })

t.test('`doctor` prints one line on a fresh server; its exit code is 1 only for errors', async (t) => {
  const doctor = (...args: string[]) => run(['doctor', ...args], { DATABASE_URL: url })
  t.same(await doctor(), { code: 0, out: 'No problems found.\n', err: '' })
  t.same(await doctor('--json'), { code: 0, out: '[]\n', err: '' })
  const verbose = await doctor('--verbose')
  t.match(verbose.out, /^ok {7}server +PostgreSQL 18\.\d+\n/)
  t.match(verbose.out, /\nok {7}connections +\d of 97 in use: accepted \d.*\n/)

  await queryOnce(url, 'alter database accepted set lock_timeout = 5')
  t.match(await doctor(), {
    code: 0,
    out: /^warning {2}setting-lock-timeout {2}lock_timeout is 5 ms: .*\. To do: alter database accepted set lock_timeout = '0'\nFound 1 warning\.\n$/,
  })
  await queryOnce(url, 'alter database accepted set synchronous_commit = off')
  const json = await doctor('--json')
  t.equal(json.code, 1)
  t.match(JSON.parse(json.out), [
    { code: 'setting-synchronous-commit', severity: 'error', message: String, action: String },
    { code: 'setting-lock-timeout', severity: 'warning', details: { setting: 'lock_timeout', value: '5' } },
  ])
  await queryOnce(url, 'alter database accepted reset all')
})

t.test('settings and transactions of the server are found, and the way out works', async (t) => {
  const conditions: Condition[] = [
    ...(['fsync', 'full_page_writes', 'autovacuum'] as const).map((setting) => ({
      make: `alter system set ${setting} = off; select pg_reload_conf()`,
      ...{ code: `setting-${setting.replaceAll('_', '-')}`, message: /is off: / },
      action: `alter system set ${setting} = on; select pg_reload_conf()`,
    })),
    {
      make: "begin; create table t (); prepare transaction 'it''s'",
      ...{ code: 'prepared-transaction', severity: 'warning', message: /^The prepared transaction it's / },
      ...{ action: "commit prepared 'it''s', or: rollback prepared 'it''s'", end: "rollback prepared 'it''s'" },
      ...withLimits({ transactionSeconds: 0 }),
    },
    {
      make: "select pg_create_physical_replication_slot('left', true)",
      ...{ code: 'replication-slot', message: /slot left, which nothing uses, keeps \d+ MB of WAL/ },
      action: /select pg_drop_replication_slot\('left'\)$/,
      ...{ end: "select pg_drop_replication_slot('left')", ...withLimits({ slotBytes: 0 }) },
    },
    {
      make: "select pg_create_logical_replication_slot('left', 'pgoutput'); create table burnt (); drop table burnt",
      ...{ code: 'replication-slot', message: /the dead rows of \d+ transactions?\./ },
      action: /select pg_drop_replication_slot\('left'\)$/,
      ...{ end: "select pg_drop_replication_slot('left')", ...withLimits({ heldTransactions: 1 }) },
    },
    {
      make: 'select 1',
      ...{
        code: 'wraparound',
        severity: 'warning',
        message: /has used \d+ transaction ids? since/,
        action: /vacuum \(freeze/,
      },
      ...{ end: 'vacuum (freeze)', ...withLimits({ transactionAge: 500 }) },
    },
  ]
  // Enough transactions for the last condition.
  await queryOnce(url, 'do $$ begin for i in 1..600 loop perform pg_current_xact_id(); commit; end loop; end $$')
  for (const condition of conditions) await checkCondition(t, url, condition)
})

t.test('open transactions are found, with the session that has them', async (t) => {
  const limits = { transactionSeconds: 0 }
  const idle = await connectTo(t, { application_name: 'forgotten' })
  await idle.query('begin; select pg_current_xact_id()')
  const [found] = await findingsAt({ url }, { limits })
  t.match(found, {
    code: 'idle-in-transaction',
    severity: 'warning',
    message: /^A transaction of forgotten \(.* and is idle/,
  })
  t.match(await findingsAt({ url }, { limits: { ...limits, longSeconds: 0 } }), [{ severity: 'error' }])
  t.match(found?.action, /select pg_terminate_backend\(\d+\)$/)
  await queryOnce(url, found?.action.split(': ').at(-1) ?? '')
  t.same(await findingsAt({ url }, { limits }), [])

  const busy = await connectTo(t, { application_name: 'report' })
  busy.query('select pg_sleep(3600)').catch(() => {})
  await until(
    async () =>
      (await queryOnce(url, "select from pg_stat_activity where application_name = 'report' and state = 'active'"))
        .length,
  )
  const [long] = await findingsAt({ url }, { limits })
  t.match(long, {
    code: 'long-transaction',
    message: /^A transaction of report .* the dead rows of \d+ transactions?\./,
  })
  await queryOnce(url, long?.action.split(': ').at(-1) ?? '')
  t.same(await findingsAt({ url }, { limits }), [])
})

/** Sends what a standby with `hot_standby_feedback` sends (PostgreSQL manual, Streaming Replication Protocol). */
async function sendFeedback(t: Test, xmin: number): Promise<pg.Client> {
  const client = await connectTo(t, { application_name: 'standby', replication: 'true' } as pg.ClientConfig)
  const { rows } = await client.query('IDENTIFY_SYSTEM')
  const { connection } = client as unknown as {
    connection: { query(text: string): void; stream: NodeJS.WritableStream }
  }
  connection.query(`START_REPLICATION PHYSICAL ${rows[0].xlogpos}`)
  const message = Buffer.alloc(1 + 4 + 25)
  message.write('d', 0)
  message.writeInt32BE(4 + 25, 1)
  message.write('h', 5)
  message.writeInt32BE(xmin, 14)
  connection.stream.write(message)
  return client
}

t.test('a standby that keeps dead rows is found', async (t) => {
  const [{ xmin }] = await queryOnce(url, 'select pg_current_xact_id()::text::int as xmin')
  const client = await sendFeedback(t, xmin)
  await until(
    async () => (await queryOnce(url, 'select from pg_stat_replication where backend_xmin is not null')).length,
  )
  await queryOnce(url, 'select pg_current_xact_id()')
  const options = { limits: { heldTransactions: 1 } }
  t.match(await findingsAt({ url }, options), [
    {
      code: 'standby-feedback',
      severity: 'warning',
      message: /the standby standby \(pid \d+\)/,
      action: /hot_standby_feedback/,
    },
  ])
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } }
  connection.stream.destroy()
  await until(async () => (await queryOnce(url, 'select from pg_stat_replication')).length === 0)
  t.same(await findingsAt({ url }, options), [])
})

t.test('dead rows and bad indexes are found, and the way out works', async (t) => {
  const conditions: Condition[] = [
    {
      make: `begin; insert into accepted.run_time select 'o' || i, 1 from generate_series(1, 200) i;
        commit; update accepted.run_time set seconds = 2; select pg_stat_force_next_flush()`,
      ...{
        code: 'dead-rows',
        severity: 'warning',
        message: /^accepted\.run_time has 200 dead and 200 live rows, last vacuumed at /,
      },
      ...{ action: /^vacuum \(verbose, analyze\) accepted\.run_time/, end: 'vacuum accepted.run_time' },
      ...withLimits({ deadRows: 100 }),
    },
    {
      make: 'alter table accepted.attempt set (autovacuum_enabled = off)',
      ...{ code: 'table-without-autovacuum', message: /1 table: accepted\.attempt/ },
      action: 'alter table accepted.attempt reset (autovacuum_enabled)',
    },
    {
      make: 'create index by_hand on accepted.run_time (updated_at)',
      ...{ code: 'index-unused', severity: 'warning', message: /accepted\.by_hand has 0 MB, is not part of Accepted/ },
      ...{
        action: 'drop index accepted.by_hand',
        options: { limits: { indexBytes: 8_193, unusedIndexDays: 0 } },
      },
    },
  ]
  for (const condition of conditions) await checkCondition(t, url, condition)
})

t.test('a bloated index is found, by an estimate and with pgstattuple', async (t) => {
  await queryOnce(
    url,
    `insert into accepted.processed_key (operation, principal, key, job_id)
    select 'o', 'ann', md5(i::text), accepted.uuid7() from generate_series(1, 20000) i`,
  )
  await queryOnce(url, 'vacuum (analyze) accepted.processed_key')
  const options = { limits: { indexBytes: 2 ** 20 } }
  t.same(await findingsAt({ url }, options), [], 'a full index is not bloated')
  await queryOnce(url, "delete from accepted.processed_key where key > '01'")
  await queryOnce(url, 'vacuum (analyze) accepted.processed_key')
  const bloated = {
    ...{ code: 'index-bloated', severity: 'warning' },
    action: 'reindex index concurrently accepted.processed_key_pkey',
  }
  t.match(await findingsAt({ url }, options), [{ ...bloated, message: /has \d MB, but its entries need about 0 MB/ }])
  await queryOnce(url, 'create extension pgstattuple')
  const measured = await findingsAt({ url }, options)
  t.match(measured, [{ ...bloated, message: /has \d MB, but its entries need \d+ % of that/ }])
  await queryOnce(url, measured[0]?.action ?? '')
  t.same(await findingsAt({ url }, options), [])
})

/** Starts a proxy that passes everything on to the server but notifications. */
async function startDroppingProxy(t: Test): Promise<string> {
  const target = new URL(url)
  const proxy = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname)
    client.pipe(upstream)
    // A notification comes alone, because the client waits for it. Its message begins with A.
    upstream.on('data', (data) => data[0] === 'A'.charCodeAt(0) || client.write(data))
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  }).listen(0, '127.0.0.1')
  t.teardown(() => proxy.close())
  await until(() => proxy.listening)
  const through = new URL(url)
  through.port = String((proxy.address() as { port: number }).port)
  return through.href
}

t.test('notifications that do not arrive are found', async (t) => {
  const other = new URL(url)
  other.pathname = '/postgres'
  const closed = new URL(url)
  closed.port = '1'
  const action = /DATABASE_LISTEN_URL/
  for (const [listenUrl, code, message] of [
    [other.href, 'listen-elsewhere', /another database or server \(postgres\) than DATABASE_URL \(accepted\)/],
    [closed.href, 'listen-failed', /ECONNREFUSED/],
    [await startDroppingProxy(t), 'notification-lost', /did not arrive within 0\.1 s/],
  ] as const) {
    const found = await findingsAt({ url, listenUrl }, { limits: { notificationMs: 100 } })
    t.match(found, [{ code, severity: 'error', message, action }])
    t.equal(found.length, 1)
  }

  const listening = await connectTo(t)
  await listening.query('listen accepted_status')
  await listening.query('begin')
  await queryOnce(url, "select pg_notify('accepted_status', i || repeat('x', 7000)) from generate_series(1, 50) i")
  const options = { limits: { notificationQueueShare: 1e-9 } }
  t.match(await findingsAt({ url }, options), [
    {
      code: 'notification-queue-full',
      severity: 'error',
      message: /^\S+ % of the notification queue/,
      action: /oldest transaction/,
    },
  ])
})

t.test('too few connections and wrong clocks are found', async (t) => {
  await checkCondition(t, url, {
    make: 'alter database accepted connection limit 20',
    ...{ code: 'connection-budget', severity: 'warning' },
    message: /^1 API process may open 11 connections, and 1 worker process 23, but the database has room for 20\.$/,
    ...{ action: /^Set POOL_SIZE=\d+, raise/, end: 'alter database accepted connection limit -1' },
  })
  await queryOnce(url, 'alter database accepted connection limit 20')
  const [found] = await findingsAt({ url })
  const poolSize = Number(/POOL_SIZE=(\d+)/.exec(found?.action ?? '')?.[1])
  t.same(await findingsAt({ url }, { poolSize }), [], 'the advice helps')
  t.match(await findingsAt({ url }, { poolSize: poolSize + 1 }), [{ code: 'connection-budget' }])
  await queryOnce(url, 'alter database accepted connection limit -1')
  t.match(await findingsAt({ url }, { limits: { connectionShare: 0 } }), [
    { code: 'connections-used-up', severity: 'error', message: /^\d+ of 97 connections are in use: .*accepted \d/ },
  ])
  for (const [now, message] of [
    [() => Date.now() - 60_000, / 60 s ahead of /],
    [() => Date.now() + 60_000, /(60|59) s behind /],
  ] as const) {
    t.match(await findingsAt({ url }, { now }), [{ code: 'clock-skew', severity: 'warning', message, action: /NTP/ }])
  }
})

t.test('a standby is an error', async (t) => {
  await server.stop()
  await writeFile(join(server.dataDir, 'postgres', 'standby.signal'), '')
  server = await start()
  t.match(await findingsAt({ url: server.url }), [{ code: 'standby', severity: 'error', action: /URL of the primary/ }])
})
