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

/**
 * Starts a server of the Debian package `postgresql-<major>` on a new cluster, on loopback.
 *
 * @returns the URL of a migrated database
 */
export async function startDebianPostgres(t: Test, major: number): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), `accepted-postgres-${major}-`))
  await chmod(directory, 0o777)
  const [data, port] = [join(directory, 'data'), await findFreePort()]
  const program = (name: string) => `/usr/lib/postgresql/${major}/bin/${name}`
  t.teardown(async () => {
    await runAsPostgres(program('pg_ctl'), ['-D', data, '-m', 'immediate', 'stop']).catch(() => {})
    await rm(directory, { recursive: true, force: true })
  })
  const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off`
  await runAsPostgres(program('initdb'), [
    '-D',
    data,
    '-U',
    'postgres',
    '-A',
    'trust',
    '-E',
    'UTF8',
    '--locale=C',
    '-N',
  ])
  await runAsPostgres(program('pg_ctl'), ['-D', data, '-o', options, '-l', join(directory, 'log'), '-w', 'start'])
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
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
