/**
 * Tests the API and the worker through PgBouncer in transaction mode. Run this test with `npm run test:pgbouncer`. It
 * is not part of `npm test`: if PgBouncer is missing, the test installs the Debian package, and that needs root.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'
import { type DatabaseOptions, openDatabase } from '../../src/db/database.ts'
import { checkMainFlow, createTables, startApi, startWorker } from '../db/main-flow.ts'
import { schema } from '../flow/fixtures/operations.ts'
import { ended, get, post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { createDatabase, queryOnce, usersOf } from '../support/database.ts'
import { hasProgram, installPackage } from '../support/debian-package.ts'
import { freePort, start } from '../support/program.ts'
import { until } from '../support/until.ts'

const execute = promisify(execFile)
const config = join(import.meta.dirname, '../flow/fixtures/accepted.config.ts')
const isRoot = process.getuid?.() === 0

/** Starts PgBouncer in front of a database. Returns a URL that leads to the database through PgBouncer. */
async function startPooler(t: Test, databaseUrl: string): Promise<string> {
  const target = new URL(databaseUrl)
  const directory = await mkdtemp(join(tmpdir(), 'accepted-pgbouncer-'))
  t.teardown(() => rm(directory, { recursive: true }))
  // When root runs this test, PgBouncer runs as another user. That user needs access to the directory.
  await chmod(directory, 0o755)
  const port = await freePort()
  const [users, settings] = [join(directory, 'users'), join(directory, 'pgbouncer.ini')]
  await writeFile(
    users,
    usersOf(databaseUrl)
      .map(({ username, password }) => `"${username}" "${password}"\n`)
      .join(''),
  )
  await writeFile(
    settings,
    `[databases]
* = host=${target.hostname} port=${target.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${users}
pool_mode = transaction
default_pool_size = 8
max_client_conn = 200
`,
  )
  const child = spawn('pgbouncer', [...(isRoot ? ['-u', 'nobody'] : []), settings], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  t.teardown(async () => {
    const closed = once(child, 'close')
    if (child.exitCode === null && child.kill('SIGKILL')) await closed
    if (!t.passing()) t.comment(`output of pgbouncer:\n${output}`)
  })
  const url = new URL(databaseUrl)
  url.port = String(port)
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`pgbouncer exited: ${output}`)
    const client = new pg.Client({ connectionString: url.href })
    return client.connect().then(
      () => client.end().then(() => true),
      () => false,
    )
  })
  return url.href
}

async function setUp(t: Test) {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  return { database, databaseUrl, pooled: await startPooler(t, databaseUrl) }
}

installPackage('pgbouncer', () => hasProgram('pgbouncer'))
t.comment((await execute('pgbouncer', ['--version'])).stdout)

for (const [how, hasListenUrl] of [
  ['with a direct DATABASE_LISTEN_URL', true],
  ['without DATABASE_LISTEN_URL', false],
] as const) {
  t.test(`jobs are accepted, performed, settled, watched, canceled and released ${how}`, async (t) => {
    const { database, databaseUrl, pooled } = await setUp(t)
    const env = {
      DATABASE_PREPARED_STATEMENTS: 'off',
      GRACE_SECONDS: '0',
      ...(hasListenUrl && { DATABASE_LISTEN_URL: databaseUrl }),
    }
    const [api, worker] = [
      await start(t, 'api', { config, databaseUrl: pooled, env }),
      await start(t, 'worker', { config, databaseUrl: pooled, env }),
    ]
    const listening = `accepted_listener_up ${Number(hasListenUrl)}\n`
    await until(async () => (await get(`${worker.url}/metrics`)).body.includes(listening))
    const warning = /Notifications do not pass through a pooler in transaction mode/
    for (const program of [api, worker]) {
      if (hasListenUrl) t.notMatch(program.output(), warning)
      else await until(() => warning.test(program.output()))
    }

    // There are more requests than sessions, so each session serves several clients of the pooler.
    const submitted = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        post(
          `${api.url}/notes${index % 2 ? '' : '/performed'}`,
          { text: 'x' },
          { 'idempotency-key': `${index >> 2}-${index % 2}` },
        ),
      ),
    )
    t.same(new Set(submitted.map(({ status }) => status)), new Set([202]))
    for (const { body } of submitted) t.match(await ended(body.links.self), { status: 'succeeded' })
    const { rows } = await database.pool.query(
      'select count(*)::int as effects, count(distinct job_id)::int as jobs from effect',
    )
    t.same(rows, [{ effects: 30, jobs: 30 }])

    const waiting = await post(`${api.url}/notes`, { text: 'x' }, { prefer: 'wait=30' })
    t.match(waiting, { status: 200, body: { status: 'succeeded' } })
    const followed = await post(`${api.url}/notes/performed`, { text: 'x' })
    const events = await (await fetch(followed.body.links.events, { signal: AbortSignal.timeout(30_000) })).text()
    t.match(events, '"status":"succeeded"')

    t.equal(await worker.end(), 0)
    const hanging = await start(t, 'worker', { config, databaseUrl: pooled, env: { ...env, HANG: 'perform' } })
    const performing = once(hanging.process, 'message')
    const { body } = await post(`${api.url}/notes/performed`, { text: 'x' })
    await performing
    t.equal((await post(`${body.links.self}/cancel`, {})).status, 202)
    t.match(await ended(body.links.self), { status: 'canceled' })

    const held = once(hanging.process, 'message')
    const unfinished = await post(`${api.url}/notes/performed`, { text: 'x' })
    await held
    t.equal(await hanging.end(), 0)
    t.match((await get(unfinished.body.links.self)).body, { status: 'queued' })
    t.equal(await api.end(), 0)
    const locks = await database.pool.query(
      `select from pg_locks
      where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`,
    )
    t.same(locks.rows, [], 'no session lock is left')
  })
}

t.test(
  'with prepared statements, the API and the worker exit with an error that names the setting to change',
  async (t) => {
    const { databaseUrl, pooled } = await setUp(t)
    for (const command of ['api', 'worker']) {
      const env = { DATABASE_URL: pooled, DATABASE_LISTEN_URL: databaseUrl, PORT: '0', WORKER_PORT: '0' }
      const ran = await run([command, '--config', config], env)
      t.equal(ran.code, 1)
      t.match(ran.err, /^error: DATABASE_URL leads through a pooler .* set DATABASE_PREPARED_STATEMENTS=off .*\n$/)
    }
  },
)

t.test('doctor names DATABASE_LISTEN_URL if notifications do not pass through the pooler', async (t) => {
  const { databaseUrl, pooled } = await setUp(t)
  const env = { DATABASE_URL: pooled, DATABASE_PREPARED_STATEMENTS: 'off' }
  const findings = async (more: NodeJS.ProcessEnv): Promise<{ code: string }[]> =>
    JSON.parse((await run(['doctor', '--json'], { ...env, ...more })).out)
  const codes = async (more: NodeJS.ProcessEnv) =>
    (await findings(more)).map(({ code }) => code).filter((code) => /listen|notification/.test(code))
  t.same(await codes({}), ['listen-through-pooler'])
  t.same(await codes({ DATABASE_LISTEN_URL: databaseUrl }), [])
})

t.test('migrations fail through the pooler, and succeed with DATABASE_LISTEN_URL', async (t) => {
  const databaseUrl = await createDatabase(t, { empty: true })
  const pooled = await startPooler(t, databaseUrl)
  const refused = await run(['migrate', '--config', config], { DATABASE_URL: pooled })
  t.equal(refused.code, 1)
  t.match(refused.err, /^error: Migrations need a session of their own, .* set DATABASE_LISTEN_URL .*\n$/)
  const ran = await run(['migrate', '--config', config], { DATABASE_URL: pooled, DATABASE_LISTEN_URL: databaseUrl })
  t.equal(ran.code, 0)
})

/** Creates a database with a setting, and returns options that lead to the database through PgBouncer. */
async function createPooledWith(t: Test, setting: string): Promise<DatabaseOptions> {
  const databaseUrl = await createDatabase(t)
  await queryOnce(databaseUrl, createTables)
  await queryOnce(databaseUrl, `alter database ${new URL(databaseUrl).pathname.slice(1)} set ${setting}`)
  return { url: await startPooler(t, databaseUrl), listenUrl: databaseUrl, preparedStatements: false }
}

t.test('through a pooler, the date style of the database does not change the answers', async (t) => {
  const database = await createPooledWith(t, "datestyle = 'German, DMY'")
  await startWorker(t, database)
  const { url } = await startApi(t, database)
  await checkMainFlow(t, url)
})

t.test('through a pooler, settings that a client cannot change there stop the start with one sentence', async (t) => {
  for (const [setting, message] of [
    ['array_nulls = off', /set array_nulls = 'on'/],
    ['default_transaction_isolation = serializable', /set default_transaction_isolation = 'read committed'/],
  ] as const) {
    const database = await createPooledWith(t, setting)
    await t.rejects(startApi(t, database), { name: 'ConfigError', message })
    await t.rejects(startWorker(t, database), { name: 'ConfigError', message })
  }
})
