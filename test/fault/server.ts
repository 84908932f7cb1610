import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { asRole, createTestRoles, queryOnce } from '../support/database.ts'
import { installPackage } from '../support/debian-package.ts'
import { hasDebianPostgres, startDebianServer } from '../support/debian-postgres.ts'

/** A Postgres with fsync on. A row may crash it. */
export interface PostgresServer {
  port: number
  dataDir: string
  logFile: string
  urlOf(database: string): string
  /** Creates a migrated database that has the tables of the test app. Returns its URL. */
  createDatabase(name: string): Promise<string>
  /** Stops the server as a crash would (`pg_ctl stop -m immediate`). Does nothing if the server is stopped. */
  crash(): Promise<void>
  /** Stops the server cleanly. */
  stop(): Promise<void>
  /** Starts the server again with the same data and port. */
  restart(): Promise<void>
  /** Stops the server for good. */
  close(): Promise<void>
}

const appMigrations = join(import.meta.dirname, 'app/migrations')
const template = 'fault_template'

/**
 * Starts a Postgres.
 *
 * @param options.dataDir a directory that the OS user postgres can access
 * @param options.settings settings for postgresql.conf
 */
export function startServer(options: { dataDir: string; settings?: Record<string, string> }): Promise<PostgresServer> {
  // fsync is on so that a commit returns only after its WAL is flushed, as in production. The data would survive
  // without fsync too, because a crash of the processes does not clear the kernel's page cache.
  return supervise((port) =>
    startEmbeddedPostgres({
      dataDir: options.dataDir,
      database: template,
      settings: { fsync: 'on', max_connections: '200', ...options.settings },
      ...(port !== undefined && { port }),
    }),
  )
}

/**
 * Starts a Postgres of Debian, which has client programs, and may have another version.
 *
 * @param directory is created. The OS user postgres must be able to access its parent.
 */
export async function startDebian(major: number, directory: string): Promise<PostgresServer> {
  installPackage(`postgresql-${major}`, () => hasDebianPostgres(major))
  await mkdir(directory)
  // The server runs as another user.
  await chmod(directory, 0o777)
  return supervise(async (port) => {
    const settings = { max_connections: '200' }
    const running = await startDebianServer(major, directory, { settings, ...(port !== undefined && { port }) })
    if (port === undefined) await queryOnce(running.url, `create database ${template}`)
    return { ...running, url: withDatabase(running.url, template) }
  })
}

/** A server that runs now, with the URL of its template database. */
type RunningServer = Pick<EmbeddedPostgres, 'url' | 'port' | 'dataDir' | 'logFile'> & {
  stop(mode: 'fast' | 'immediate'): Promise<void>
}

function withDatabase(url: string, database: string): string {
  const other = new URL(url)
  other.pathname = `/${database}`
  return other.href
}

/** @param start starts the server, on its earlier port if it has run before */
async function supervise(start: (port?: number) => Promise<RunningServer>): Promise<PostgresServer> {
  let running = await start()
  // Databases are created one at a time: Postgres copies a template only while no session is connected to it.
  let lastCreation = Promise.resolve()
  const { port, dataDir, logFile, url } = running
  const urlOf = (database: string) => withDatabase(url, database)
  return {
    port,
    dataDir,
    logFile,
    urlOf,
    createDatabase(name) {
      lastCreation = lastCreation.then(async () => {
        await createTestRoles(url)
        // The row `deadlocks` sets it, which otherwise only a superuser may do.
        await queryOnce(url, 'grant set on parameter deadlock_timeout to public')
        await migrate({ url: asRole(url, 'migrate'), appMigrations })
        await queryOnce(urlOf('postgres'), `create database ${name} template ${template}`)
      })
      return lastCreation.then(() => urlOf(name))
    },
    crash: () => running.stop('immediate'),
    stop: () => running.stop('fast'),
    async restart() {
      // Frees the lock on the data directory if the server has exited by itself.
      await running.stop('immediate')
      running = await start(port)
    },
    close: () => running.stop('immediate'),
  }
}
