import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chown, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { type Account, EmbeddedPostgresError, findPlace, type Place } from './embedded-place.ts'

export { EmbeddedPostgresError } from './embedded-place.ts'

/** A Postgres of our own. */
export interface EmbeddedPostgres {
  /** With user and password. */
  url: string
  /** Where the data really is; elsewhere than asked for when the server's user may not go there. */
  dataDir: string
  logFile: string
  port: number
  pid: number
  /** `fast` ends sessions and writes everything; `immediate` is a crash. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
}

export interface EmbeddedPostgresOptions {
  /** The cluster is in `<dataDir>/postgres`; it is made on first use. */
  dataDir: string
  /** Default: a free one. */
  port?: number
  /** Of postgresql.conf. */
  settings?: Readonly<Record<string, string>>
  /** Made when it is missing; default `accepted`. */
  database?: string
}

/** The PostgreSQL that the binaries are. */
const majorVersion = '18'

/** Losing the race for a free port so often is no accident. */
const mostPorts = 5

/**
 * Starts a real Postgres from npm, in a session of its own, so that a terminal's Ctrl-C does not reach it. As root it
 * runs as the user postgres, for it refuses to run as root.
 *
 * @throws EmbeddedPostgresError with a sentence that says what to do
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const place = await findPlace(options.dataDir)
  const cluster = join(place.dataDir, 'postgres')
  const passwordFile = join(place.dataDir, 'postgres.password')
  const logFile = join(cluster, 'server.log')
  await initialise(place, cluster, passwordFile)
  await assertNotRunning(place, cluster)
  const port = await startOnPort(place, cluster, logFile, options)
  await writeFile(starterFile(place), String(process.pid))
  const pid = (await readPid(join(cluster, 'postmaster.pid'))) as number
  const password = (await readFile(passwordFile, 'utf8')).trim()
  const urlOf = (database: string) => `postgres://postgres:${password}@127.0.0.1:${port}/${database}`
  let stopped: Promise<void> | undefined
  const stop = (mode = 'fast') => {
    stopped ??= run(place, place.binaries.pg_ctl, ['stop', '-D', cluster, '-m', mode, '-w', '-t', '60']).then(() => {})
    return stopped
  }
  try {
    await createDatabase(urlOf('postgres'), options.database ?? 'accepted')
  } catch (error) {
    await stop()
    throw error
  }
  return { url: urlOf(options.database ?? 'accepted'), dataDir: place.dataDir, logFile, port, pid, stop }
}

/** Makes the cluster beside its place and moves it there, so that an interrupted initdb leaves no half cluster. */
async function initialise(place: Place, cluster: string, passwordFile: string): Promise<void> {
  const version = await readFile(join(cluster, 'PG_VERSION'), 'utf8').catch(() => undefined)
  if (version?.trim() === majorVersion) return
  if (version) {
    throw new EmbeddedPostgresError(
      'other-version',
      `${cluster} was made by PostgreSQL ${version.trim()} and this is ${majorVersion}: dump it with the old one, or set DATA_DIR to another directory.`,
    )
  }
  const half = `${cluster}.new`
  const handedOver = join(tmpdir(), `accepted-${randomBytes(8).toString('hex')}`)
  try {
    const password = randomBytes(24).toString('base64url')
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
    await writeFile(handedOver, `${password}\n`, { mode: 0o600 })
    await rm(half, { recursive: true, force: true })
    await mkdir(half, { mode: 0o700 })
    if (place.account) {
      await chown(half, place.account.uid, place.account.gid)
      await chown(handedOver, place.account.uid, place.account.gid)
    }
    await run(place, place.binaries.initdb, [
      ...['-D', half, '-U', 'postgres', '--pwfile', handedOver, '-A', 'scram-sha-256'],
      ...['-E', 'UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
    ])
    await rm(cluster, { recursive: true, force: true })
    await rename(half, cluster)
  } catch (error) {
    await rm(half, { recursive: true, force: true }).catch(() => {})
    throw explain(error, place.dataDir)
  } finally {
    await rm(handedOver, { force: true })
  }
}

/** Names the process that started the server, and would stop it if it still lived. */
const starterFile = (place: Place) => join(place.dataDir, 'starter.pid')

/** A server that runs on the data keeps it, unless whoever started it was killed and could not stop it. */
async function assertNotRunning(place: Place, cluster: string): Promise<void> {
  const pidFile = join(cluster, 'postmaster.pid')
  const pid = await readPid(pidFile)
  if (pid === undefined) return
  if (!(await isPostgresIn(pid, cluster))) {
    // Postgres itself would refuse when the pid has been given to another process.
    await rm(pidFile, { force: true })
    return
  }
  const starter = await readPid(starterFile(place))
  if (starter !== undefined && !isAlive(starter)) {
    await run(place, place.binaries.pg_ctl, ['stop', '-D', cluster, '-m', 'fast', '-w', '-t', '60'])
    return
  }
  throw new EmbeddedPostgresError(
    'data-dir-locked',
    `${cluster} is in use by the Postgres with pid ${pid}: stop what started it, or stop it with \`kill -INT ${pid}\`, or set DATA_DIR to another directory.`,
  )
}

async function readPid(file: string): Promise<number | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  return Number.parseInt(text ?? '', 10) || undefined
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Whether a process is the Postgres of a cluster; its command line names the directory. */
async function isPostgresIn(pid: number, cluster: string): Promise<boolean> {
  const fromProc = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined)
  const command = fromProc ?? (await capture('/bin/ps', ['-o', 'command=', '-p', String(pid)]).catch(() => ''))
  return command.includes('postgres') && command.includes(cluster)
}

async function startOnPort(
  place: Place,
  cluster: string,
  logFile: string,
  { port: wanted, settings = {} }: EmbeddedPostgresOptions,
): Promise<number> {
  for (let round = 1; ; round++) {
    const port = wanted ?? (await freePort())
    const all = { ...settings, port: String(port), listen_addresses: '127.0.0.1', unix_socket_directories: '' }
    const flags = Object.entries(all).map(([name, value]) => `-c ${name}='${value}'`)
    await rm(logFile, { force: true })
    try {
      await run(place, place.binaries.pg_ctl, [
        'start',
        '-D',
        cluster,
        '-l',
        logFile,
        '-w',
        '-t',
        '60',
        '-o',
        flags.join(' '),
      ])
      return port
    } catch (error) {
      const log = await readFile(logFile, 'utf8').catch(() => '')
      const explained = explain(new Error(log || String(error)), place.dataDir, port)
      if (explained.code !== 'port-taken' || wanted || round === mostPorts) throw explained
    }
  }
}

/** The sentence for what initdb or Postgres printed. */
export function explain(error: unknown, dataDir: string, port?: number): EmbeddedPostgresError {
  if (error instanceof EmbeddedPostgresError) return error
  const text = error instanceof Error ? error.message : String(error)
  if (/No space left on device|ENOSPC/.test(text)) {
    return new EmbeddedPostgresError(
      'disk-full',
      `The disk of ${dataDir} is full: make room, or set DATA_DIR elsewhere.`,
    )
  }
  if (/Address already in use|could not bind/.test(text)) {
    return new EmbeddedPostgresError('port-taken', `Port ${port} is taken, so Postgres cannot listen on it.`)
  }
  if (/Permission denied|EACCES|EROFS|Read-only/.test(text)) {
    return new EmbeddedPostgresError(
      'no-permission',
      `${dataDir} cannot be written: change its owner, or set DATA_DIR elsewhere.`,
    )
  }
  const reason = text.match(/(?:FATAL|PANIC|error): *(.*)/)?.[1] ?? text.trim().split('\n').at(-1)
  return new EmbeddedPostgresError('start-failed', `Postgres did not start in ${dataDir}: ${reason}`)
}

async function createDatabase(url: string, name: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query('select from pg_database where datname = $1', [name])
    if (rows.length === 0) await client.query(`create database ${client.escapeIdentifier(name)}`)
  } finally {
    await client.end()
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

/** Runs one of the programs as the server's user, in a directory that user can enter. */
async function run({ account }: { account: Account | undefined }, program: string, args: string[]): Promise<void> {
  await capture(program, args, account)
}

/** What a program prints; rejects with it when the program fails. */
function capture(program: string, args: string[], account?: Account): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...account, cwd: '/', env: { LC_ALL: 'C' } })
    let printed = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        printed += chunk
      })
    }
    child.on('error', reject)
    // Not `close`: the server that pg_ctl leaves behind holds on to the pipes.
    child.on('exit', (code) =>
      code === 0 ? resolve(printed) : reject(new Error(printed || `${program} exited ${code}`)),
    )
  })
}
