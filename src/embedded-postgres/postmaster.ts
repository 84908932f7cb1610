import { readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { readIfPresent } from './cluster.ts'
import { EmbeddedPostgresError, explain } from './embedded-postgres-error.ts'
import type { InstallLocation } from './install-location.ts'
import { runProgram } from './process.ts'

/** `fast` ends sessions and writes everything to disk. `immediate` is like a crash. */
export type StopMode = 'fast' | 'immediate'

export interface PostmasterOptions {
  /** Default: the port of the last start if it is free, else any free port. */
  port?: number
  /** Parameters of postgresql.conf. */
  settings?: Readonly<Record<string, string>>
}

/**
 * Maximum number of free ports to try. One port is not enough, because another program may take it before Postgres
 * does.
 */
const maxPortAttempts = 5

/** How long Postgres may take to start or to stop. */
const startStopTimeoutSeconds = '60'

export const logFile = (cluster: string): string => join(cluster, 'server.log')

const pidFile = (cluster: string) => join(cluster, 'postmaster.pid')

/** A pid above the maximum of every operating system. No process can have this pid. */
const unusedPid = '2147483647'

/**
 * Returns the pid of a cluster's server, or undefined. The pid file may be out of date, so the command line of the
 * process is checked.
 */
export async function findPostmaster(cluster: string): Promise<number | undefined> {
  const [pid, directory] = (await readIfPresent(pidFile(cluster)))?.split('\n') ?? []
  if (!pid || !directory) return undefined
  const fromProc = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined)
  const command = fromProc ?? (await runProgram('/bin/ps', ['-o', 'command=', '-p', pid]).catch(() => ''))
  return command.includes('postgres') && command.includes(directory) ? Number(pid) : undefined
}

/** Starts Postgres on a cluster. Returns the port. */
export async function startPostmaster(
  { programs, account, dataDir }: InstallLocation,
  cluster: string,
  options: PostmasterOptions,
): Promise<number> {
  const log = logFile(cluster)
  await disownPidFile(cluster)
  for (let attempt = 1; ; attempt++) {
    const port = options.port || (attempt === 1 && (await readLastPort(cluster))) || (await findFreePort())
    const settings = { ...options.settings, port, listen_addresses: '127.0.0.1', unix_socket_directories: '' }
    const flags = Object.entries(settings).map(([name, value]) => `-c ${name}=${quoteForShell(String(value))}`)
    await rm(log, { force: true })
    try {
      const args = ['-D', cluster, '-l', log, '-w', '-t', startStopTimeoutSeconds, '-o', flags.join(' ')]
      await runProgram(programs.pg_ctl, ['start', ...args], account)
      return port
    } catch (error) {
      const logged = await readFile(log, 'utf8').catch(() => '')
      const explained = explain(logged ? new Error(logged) : error, dataDir, port)
      if (explained.code !== 'port-taken' || options.port || attempt === maxPortAttempts) throw explained
    }
  }
}

/**
 * Replaces the pid in a pid file that remains after a crash. Postgres would not start if another process has this pid
 * now. The rest of the file is kept, because Postgres uses it to detect remaining processes of the old server.
 */
async function disownPidFile(cluster: string): Promise<void> {
  const text = await readIfPresent(pidFile(cluster))
  if (text) await writeFile(pidFile(cluster), text.replace(/^\d+/, unusedPid))
}

/** Quotes a value, because pg_ctl starts the server through a shell. */
const quoteForShell = (value: string) => `'${value.replaceAll("'", "'\\''")}'`

/** Returns the port of the last start. Postgres writes its command line to the file. */
async function readLastPort(cluster: string): Promise<number> {
  return Number(/ "port=(\d+)"/.exec((await readIfPresent(join(cluster, 'postmaster.opts'))) ?? '')?.[1])
}

function findFreePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

export async function stopPostmaster(
  { programs, account }: InstallLocation,
  cluster: string,
  pid: number,
  mode: StopMode,
): Promise<void> {
  try {
    const args = ['-D', cluster, '-m', mode, '-w', '-t', startStopTimeoutSeconds]
    await runProgram(programs.pg_ctl, ['stop', ...args], account)
  } catch {
    // pg_ctl also fails if the server has exited in the meantime.
    if ((await findPostmaster(cluster)) !== pid) return
    throw new EmbeddedPostgresError(
      'stop-failed',
      `The Postgres with pid ${pid} did not stop within ${startStopTimeoutSeconds} s: ` +
        `run \`kill -QUIT ${pid}\` to end it.`,
    )
  }
}
