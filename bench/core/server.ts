import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'

/** The Postgres cluster that all contenders share. */
export interface Server {
  pid: number
  port: number
  /** Each line starts with the database and the application name. */
  logFile: string
  urlOf(database: string): string
  /** Creates an empty database and returns its URL. */
  createDatabase(name: string): Promise<string>
  /** Creates a database with our schema and the schema of the bench's app. Returns its URL. */
  createOurs(name: string): Promise<string>
  dropDatabase(name: string): Promise<void>
  /** Returns the settings that make commits durable, and the version. */
  durability(): Promise<Record<string, string>>
  stop(): Promise<void>
}

/**
 * Starts Postgres with `fsync`, enough connections for all contenders, and enough room for WAL. All other settings that
 * affect speed are the defaults. With the default `max_wal_size`, Postgres would make a checkpoint every minute. Most
 * WAL would then be full-page images, which Postgres writes after each checkpoint.
 *
 * @param dataDir a directory that the user postgres can enter; if it has a cluster, the databases of the cluster are kept
 * @param options.port the port of a server that ran on this cluster before; default a free port
 * @param options.maxConnections default 500
 */
export async function startServer(
  dataDir: string,
  appMigrations: string,
  { port, maxConnections = 500 }: { port?: number; maxConnections?: number } = {},
): Promise<Server> {
  const running = await startEmbeddedPostgres({
    dataDir,
    database: 'bench',
    settings: {
      fsync: 'on',
      max_connections: String(maxConnections),
      max_wal_size: '8GB',
      log_line_prefix: '%d|%a|',
    },
    ...(port !== undefined && { port }),
  })
  const urlOf = (database: string) => {
    const url = new URL(running.url)
    url.pathname = `/${database}`
    return url.href
  }
  const create = async (name: string, template = 'template1') => {
    await query(urlOf('postgres'), `drop database if exists ${name} with (force)`)
    await query(urlOf('postgres'), `create database ${name} template ${template}`)
    return urlOf(name)
  }
  let migrated: Promise<void> | undefined
  const migrateTemplate = async () => migrate({ url: await create('migrated'), appMigrations })
  return {
    pid: running.pid,
    port: running.port,
    logFile: running.logFile,
    urlOf,
    createDatabase: (name) => create(name),
    async createOurs(name) {
      migrated ??= migrateTemplate()
      await migrated
      return create(name, 'migrated')
    },
    dropDatabase: async (name) => void (await query(urlOf('postgres'), `drop database ${name} with (force)`)),
    async durability() {
      const names = ['fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'max_wal_size', 'server_version']
      const rows = await query<{ name: string; setting: string }>(
        urlOf('postgres'),
        'select name, current_setting(name) as setting from unnest($1::text[]) as wanted (name)',
        [names],
      )
      return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))
    },
    stop: () => running.stop('fast'),
  }
}

/** Runs one statement on a connection of its own and returns the rows. */
export async function query<Row extends pg.QueryResultRow>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(text, values)).rows
  } finally {
    await client.end()
  }
}
