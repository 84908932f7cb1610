import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { migrate } from '../../src/migrate/migrate.ts'

const run = promisify(execFile)

/** Whether the Debian package `postgresql-<major>` is installed. */
export const hasDebianPostgres = (major: number): boolean => existsSync(`/usr/lib/postgresql/${major}/bin/initdb`)

/** Runs a program as the user `postgres` if this process runs as root, because Postgres refuses to run as root. */
const runAsPostgres = (program: string, args: string[]) =>
  process.getuid?.() === 0 ? run('runuser', ['-u', 'postgres', '--', program, ...args]) : run(program, args)

/** The path of a program of the Debian packages `postgresql-<major>` and `postgresql-client-<major>`. */
export const debianProgram = (major: number, name: string): string => `/usr/lib/postgresql/${major}/bin/${name}`

/** A running server of a Debian package. */
export interface DebianPostgres {
  /** The URL of the database `postgres`. */
  url: string
  port: number
  dataDir: string
  logFile: string
  stop(mode: 'fast' | 'immediate'): Promise<void>
}

/**
 * Starts a server of the Debian package `postgresql-<major>` on loopback. Creates its cluster if there is none.
 *
 * @param directory a directory that the OS user postgres can access
 * @param port default: a free port
 */
export async function startDebianServer(
  major: number,
  directory: string,
  { port, settings = {} }: { port?: number; settings?: Record<string, string> } = {},
): Promise<DebianPostgres> {
  const program = (name: string) => debianProgram(major, name)
  const [data, logFile] = [join(directory, 'data'), join(directory, 'log')]
  const ownPort = port ?? (await findFreePort())
  if (!existsSync(data)) {
    await runAsPostgres(program('initdb'), [
      ...['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N'],
    ])
  }
  const all = { listen_addresses: '127.0.0.1', unix_socket_directories: '', ...settings }
  const options = Object.entries(all).map(([name, value]) => `-c ${name}=${value}`)
  const start = ['-D', data, '-o', `-p ${ownPort} ${options.join(' ')}`, '-l', logFile, '-w', 'start']
  await runAsPostgres(program('pg_ctl'), start)
  return {
    url: `postgres://postgres@127.0.0.1:${ownPort}/postgres`,
    ...{ port: ownPort, dataDir: data, logFile },
    stop: async (mode) => void (await runAsPostgres(program('pg_ctl'), ['-D', data, '-m', mode, 'stop'])),
  }
}

/**
 * Starts a server of the Debian package `postgresql-<major>` on a new cluster, on loopback.
 *
 * @returns the URL of a migrated database
 */
export async function startDebianPostgres(t: Test, major: number): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), `accepted-postgres-${major}-`))
  await chmod(directory, 0o777)
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const { url, stop } = await startDebianServer(major, directory, { settings: { fsync: 'off' } })
  // Teardown functions run in reverse order.
  t.teardown(() => stop('immediate').catch(() => {}))
  await migrate({ url })
  return url
}

function findFreePort(): Promise<number> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
