import { join } from 'node:path'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { queryOnce } from '../support/database.ts'

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
export async function startServer(options: {
  dataDir: string
  settings?: Record<string, string>
}): Promise<PostgresServer> {
  // fsync is on so that a commit returns only after its WAL is flushed, as in production. The data would survive
  // without fsync too, because a crash of the processes does not clear the kernel's page cache.
  const start = (port?: number): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({
      dataDir: options.dataDir,
      database: template,
      settings: { fsync: 'on', max_connections: '200', ...options.settings },
      ...(port !== undefined && { port }),
    })
  let running = await start()
  // Databases are created one at a time: Postgres copies a template only while no session is connected to it.
  let lastCreation = Promise.resolve()
  const { port, dataDir, logFile, url } = running
  const urlOf = (database: string) => {
    const other = new URL(url)
    other.pathname = `/${database}`
    return other.href
  }
  return {
    port,
    dataDir,
    logFile,
    urlOf,
    createDatabase(name) {
      lastCreation = lastCreation.then(async () => {
        await migrate({ url, appMigrations })
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
