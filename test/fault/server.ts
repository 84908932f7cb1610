import { join } from 'node:path'
import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'

/** A Postgres that may crash, with fsync on. */
export interface Server {
  port: number
  dataDir: string
  logFile: string
  urlOf(database: string): string
  /** A migrated database with the tables of the app; answers its name. */
  createDatabase(name: string): Promise<string>
  /** Stops it as a crash would (`pg_ctl stop -m immediate`), when it still runs. */
  crash(): Promise<void>
  /** Stops it in order. */
  stop(): Promise<void>
  /** Starts it again on the same data and port. */
  restart(): Promise<void>
  /** Crashes it, for nobody needs it any more. */
  close(): Promise<void>
}

const appMigrations = join(import.meta.dirname, 'app/migrations')
const template = 'fault_template'

/**
 * Starts a Postgres.
 *
 * @param options.dataDir one that the user postgres can enter
 * @param options.settings of postgresql.conf
 */
export async function startServer(options: { dataDir: string; settings?: Record<string, string> }): Promise<Server> {
  // A crash has nothing to lose in the kernel's cache; that WAL is flushed before the commit returns is what counts.
  const start = (port?: number): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({
      dataDir: options.dataDir,
      database: template,
      settings: { fsync: 'on', max_connections: '200', ...options.settings },
      ...(port !== undefined && { port }),
    })
  let running = await start()
  // One after the other: nobody may be connected to a template that is copied.
  let creating = Promise.resolve()
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
      creating = creating.then(async () => {
        await migrate({ url, appMigrations })
        await query(urlOf('postgres'), `create database ${name} template ${template}`)
      })
      return creating.then(() => urlOf(name))
    },
    crash: () => running.stop('immediate'),
    stop: () => running.stop('fast'),
    async restart() {
      // One that went down by itself has still to be given up.
      await running.stop('immediate')
      running = await start(port)
    },
    close: () => running.stop('immediate'),
  }
}

/** Runs one statement over a connection of its own and answers the rows. */
// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
export async function query(url: string, text: string, values: unknown[] = []): Promise<any[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
  // A server that crashes while we are connected is what is expected here.
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end().catch(() => {})
  }
}
