import { randomBytes } from 'node:crypto'
import { chown, link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join, resolve as resolvePath } from 'node:path'
import pg from 'pg'
import { EmbeddedPostgresError, explain, locked } from './embedded-error.ts'
import { findPlace, type Place } from './embedded-place.ts'
import { capture, runningSince } from './embedded-process.ts'

/** A Postgres of our own. */
export interface EmbeddedPostgres {
  /** With user and password. */
  url: string
  /** Where the data really is; elsewhere than asked for when the server's user may not go there. */
  dataDir: string
  logFile: string
  port: number
  pid: number
  isRunning(): Promise<boolean>
  /** `fast` ends sessions and writes everything; `immediate` is a crash. Stopping what has stopped is no error. */
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

/** How long Postgres may take to start or to stop, in seconds. */
const patience = '60'

/**
 * Starts a real Postgres from npm, in a session of its own, so that a terminal's Ctrl-C does not reach it. As root it
 * runs as the user postgres, for it refuses to run as root.
 *
 * @throws EmbeddedPostgresError with a sentence that says what to do
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  let dataDir = resolvePath(options.dataDir)
  try {
    const place = await findPlace(dataDir)
    dataDir = place.dataDir
    const cluster = join(dataDir, 'postgres')
    await claim(place, cluster)
    try {
      await initialise(place, cluster)
      const password = await readPassword(cluster)
      const port = await startOnPort(place, cluster, options)
      return await serve(place, cluster, { port, password, database: options.database ?? 'accepted' })
    } catch (error) {
      await release(place)
      throw error
    }
  } catch (error) {
    throw explain(error, dataDir)
  }
}

async function serve(
  place: Place,
  cluster: string,
  { port, password, database }: { port: number; password: string; database: string },
): Promise<EmbeddedPostgres> {
  const pid = await livePostgres(cluster)
  if (!pid) throw new Error('it ended as soon as it had started')
  // Not one that another start has put there since.
  const isRunning = async () => (await livePostgres(cluster)) === pid
  const stop = async (mode: 'fast' | 'immediate' = 'fast') => {
    if (await isRunning()) await stopServer(place, cluster, pid, mode)
    await release(place)
  }
  try {
    const urlOf = (name: string) => `postgres://postgres:${password}@127.0.0.1:${port}/${encodeURIComponent(name)}`
    await createDatabase(urlOf('postgres'), database)
    return { url: urlOf(database), dataDir: place.dataDir, logFile: logFile(cluster), port, pid, isRunning, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** It lies within the cluster, so that neither is there without the other. */
const passwordFile = (cluster: string) => join(cluster, 'password')

async function readPassword(cluster: string): Promise<string> {
  const password = await readFile(passwordFile(cluster), 'utf8').catch(whenMissing)
  if (password !== undefined) return password.trim()
  throw new EmbeddedPostgresError(
    'no-password',
    `There is no ${passwordFile(cluster)}, so nobody can log in: bring it back, or set DATA_DIR to another directory.`,
  )
}

const logFile = (cluster: string) => join(cluster, 'server.log')

/** Makes the cluster beside its place and moves it there, so that an interrupted initdb leaves no half cluster. */
async function initialise(place: Place, cluster: string): Promise<void> {
  const version = await readFile(join(cluster, 'PG_VERSION'), 'utf8').catch(whenMissing)
  if (version?.trim() === majorVersion) return
  if (version !== undefined) {
    throw new EmbeddedPostgresError(
      'other-version',
      `${cluster} was made by PostgreSQL ${version.trim()} and this is ${majorVersion}: dump it with the old one, or set DATA_DIR to another directory.`,
    )
  }
  await removeHalves(place.dataDir)
  const half = `${cluster}.new-${randomBytes(4).toString('hex')}`
  const password = `${half}.password`
  try {
    await mkdir(half, { mode: 0o700 })
    await writeFile(password, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600, flush: true })
    const { account } = place
    if (account) for (const path of [half, password]) await chown(path, account.uid, account.gid)
    const flags = [
      ...['-D', half, '-U', 'postgres', '--pwfile', password, '-A', 'scram-sha-256'],
      ...['-E', 'UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
    ]
    await capture(place.binaries.initdb, flags, account)
    await rename(password, passwordFile(half))
    await rename(half, cluster).catch(({ code }: NodeJS.ErrnoException) => {
      // What is there may be anybody's, and is not ours to remove.
      throw new EmbeddedPostgresError(
        'foreign-directory',
        `${cluster} is there but is no Postgres cluster (${code}): move it away, or set DATA_DIR to another directory.`,
      )
    })
  } catch (error) {
    await removeHalves(place.dataDir)
    throw error
  }
}

/** What interrupted starts have left; an initdb may be at it still, and fails then. */
async function removeHalves(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (name.startsWith('postgres.new')) await rm(join(dataDir, name), { recursive: true, force: true }).catch(() => {})
  }
}

/** Names the process that started the server, and would stop it if it still lived. */
const starterFile = ({ dataDir }: Place) => join(dataDir, 'starter.pid')

/** Reserves the data directory for this process. A server whose starter was killed, and could not stop it, is stopped. */
async function claim(place: Place, cluster: string): Promise<void> {
  const file = starterFile(place)
  const found = await readFile(file, 'utf8').catch(whenMissing)
  const server = await livePostgres(cluster)
  if (found === undefined || (await isRunning(found))) {
    if (server) throw locked(cluster, `the Postgres with pid ${server}`, `\`kill -INT ${server}\``)
    const pid = Number.parseInt(found ?? '', 10)
    if (pid) throw locked(cluster, `the process ${pid}`, `\`kill ${pid}\``)
  }
  const mine = `${file}.${randomBytes(4).toString('hex')}`
  await writeFile(mine, `${process.pid} ${await runningSince(process.pid)}`)
  try {
    // A link is made by one alone. Who replaces the file of a killed one at the same instant is stopped by Postgres.
    await (found === undefined ? link : rename)(mine, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return claim(place, cluster)
    throw error
  } finally {
    await rm(mine, { force: true })
  }
  if (server) await stopServer(place, cluster, server, 'fast')
}

async function release(place: Place): Promise<void> {
  const starter = await readFile(starterFile(place), 'utf8').catch(() => '')
  if (Number.parseInt(starter, 10) === process.pid) await rm(starterFile(place), { force: true })
}

/** Whether the process of a starter file is still that one. */
async function isRunning(starter: string): Promise<boolean> {
  const [pid, since] = starter.split(' ')
  return since !== undefined && since === (await runningSince(Number(pid)))
}

/** The pid of the server that runs on a cluster: the pid file says so, and that process' command line agrees. */
async function livePostgres(cluster: string): Promise<number | undefined> {
  const [pid, directory] = (await readFile(pidFile(cluster), 'utf8').catch(whenMissing))?.split('\n') ?? []
  if (!pid || !directory) return undefined
  const fromProc = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined)
  const command = fromProc ?? (await capture('/bin/ps', ['-o', 'command=', '-p', pid]).catch(() => ''))
  return command.includes('postgres') && command.includes(directory) ? Number(pid) : undefined
}

const pidFile = (cluster: string) => join(cluster, 'postmaster.pid')

/** No process has it: it is above every system's limit. */
const nobodysPid = '2147483647'

/**
 * A pid that another process has now would keep Postgres from starting. Only the pid is replaced: by the rest of the
 * file Postgres sees whether anything that belonged to the old server still runs.
 */
async function disownPidFile(cluster: string): Promise<void> {
  const text = await readFile(pidFile(cluster), 'utf8').catch(whenMissing)
  if (text) await writeFile(pidFile(cluster), text.replace(/^\d+/, nobodysPid))
}

async function startOnPort(place: Place, cluster: string, options: EmbeddedPostgresOptions): Promise<number> {
  const log = logFile(cluster)
  await disownPidFile(cluster)
  for (let round = 1; ; round++) {
    const port = options.port || (await freePort())
    const settings = { ...options.settings, port, listen_addresses: '127.0.0.1', unix_socket_directories: '' }
    const flags = Object.entries(settings).map(([name, value]) => `-c ${name}=${quote(String(value))}`)
    await rm(log, { force: true })
    try {
      const args = ['-D', cluster, '-l', log, '-w', '-t', patience, '-o', flags.join(' ')]
      await capture(place.binaries.pg_ctl, ['start', ...args], place.account)
      return port
    } catch (error) {
      const logged = await readFile(log, 'utf8').catch(() => '')
      const explained = explain(logged ? new Error(logged) : error, place.dataDir, port)
      if (explained.code !== 'port-taken' || options.port || round === mostPorts) throw explained
    }
  }
}

/** For the shell through which pg_ctl starts the server. */
const quote = (value: string) => `'${value.replaceAll("'", "'\\''")}'`

async function stopServer(place: Place, cluster: string, pid: number, mode: 'fast' | 'immediate'): Promise<void> {
  try {
    await capture(place.binaries.pg_ctl, ['stop', '-D', cluster, '-m', mode, '-w', '-t', patience], place.account)
  } catch {
    // It may have ended by itself meanwhile.
    if ((await livePostgres(cluster)) !== pid) return
    throw new EmbeddedPostgresError(
      'stop-failed',
      `The Postgres with pid ${pid} did not stop within ${patience} seconds: \`kill -QUIT ${pid}\` ends it.`,
    )
  }
}

/** A file that cannot be read is another matter than one that is not there. */
function whenMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
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
