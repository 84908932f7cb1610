import { Kysely, PostgresDialect } from 'kysely'
import type pg from 'pg'
import { PipelinedClient } from './client.ts'
import { breakDeadConnections } from './dead-connections.ts'
import { enablePipeline } from './pipeline.ts'
import { connectOutsidePool, PipelinedPool } from './pool.ts'
import { preparingClient } from './prepared-statements.ts'
import type { Tables } from './tables.ts'

export interface DatabaseOptions {
  /** `postgres://…`; may lead through a pooler. */
  url: string
  /** A direct URL for LISTEN and migrations, when `url` leads through a pooler in transaction mode. Default: `url`. */
  listenUrl?: string
  /** Maximum number of connections in the pool; default 10. */
  poolSize?: number
  /** Whether to use named prepared statements; false for a pooler that does not support them. Default true. */
  preparedStatements?: boolean
  /** Shown as `pg_stat_activity.application_name`; default `accepted`. */
  applicationName?: string
  /** Called with the error of a connection that broke while idle. The pool replaces the connection. */
  onIdleError?: (error: Error) => void
}

/** A process's access to Postgres: a pool, and Kysely on top of it. */
export interface Database {
  kysely: Kysely<Tables>
  pool: pg.Pool
  options: Required<Omit<DatabaseOptions, 'onIdleError'>>
  /** Ends the connections in use, whatever they are doing. Postgres rolls back what they have not committed. */
  terminateActive(): void
  close(): Promise<void>
}

/** Limits how long a request or a job waits for a connection. */
const connectTimeoutMs = 5_000
/** Long, because a new connection costs 8 ms: 4 ms to open, and 4 ms to read catalogs and prepare statements. */
const idleConnectionTimeoutMs = 300_000
/**
 * TCP probes a connection that has been quiet for this long; the default of Linux is two hours. The probes keep
 * firewalls from dropping the connection. They also detect a dead connection within another ten seconds, so that the
 * pool does not hand it out.
 */
const keepAliveDelayMs = 10_000

/** Opens a pool, which connects with its first statement. */
export function openDatabase(options: DatabaseOptions): Database {
  const withDefaults = {
    poolSize: 10,
    preparedStatements: true,
    applicationName: 'accepted',
    listenUrl: options.url,
    ...options,
  }
  const connection = {
    connectionString: withDefaults.url,
    application_name: withDefaults.applicationName,
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveDelayMs,
  }
  const pool = new PipelinedPool({
    ...connection,
    max: withDefaults.poolSize,
    idleTimeoutMillis: idleConnectionTimeoutMs,
    Client: withDefaults.preparedStatements ? preparingClient() : PipelinedClient,
  })
  // Without a listener a connection that breaks while idle would end the process.
  pool.on('error', (error) => {
    // The error may be logged, and the client that the pool attaches holds the password.
    delete (error as { client?: unknown }).client
    options.onIdleError?.(error)
  })
  const stopChecking = breakDeadConnections({
    clientsInUse: () => pool.clientsInUse,
    idleClients: () => pool.idleClients,
    connect: () => connectOutsidePool({ ...connection, query_timeout: connectTimeoutMs }),
  })
  const dialect = new PostgresDialect({ pool })
  const kysely = new Kysely<Tables>({ dialect })
  enablePipeline(kysely, dialect)
  return {
    kysely,
    pool,
    options: withDefaults,
    terminateActive: () => pool.terminateActive(),
    async close() {
      stopChecking()
      await kysely.destroy()
      // Kysely ends the pool only if it has sent a statement.
      if (!pool.ending) await pool.end()
    },
  }
}
