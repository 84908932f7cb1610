import { Kysely, PostgresDialect } from 'kysely'
import type pg from 'pg'
import { withoutApplicationName } from './application-name.ts'
import { PipelinedClient } from './client.ts'
import { breakDeadConnections } from './dead-connections.ts'
import { enablePipeline } from './pipeline.ts'
import { connectOutsidePool, PipelinedPool } from './pool.ts'
import { apiPoolSize } from './pool-sizes.ts'
import { markIdleError } from './postgres-error.ts'
import { preparingClient } from './prepared-statements.ts'
import type { Tables } from './tables.ts'

export interface DatabaseOptions {
  /** `postgres://…`. The URL may lead through a pooler. */
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
  /** How to connect to the server: for statements, and for what needs a session of its own. */
  server: { statements: pg.ClientConfig; listen: pg.ClientConfig }
  /** Whether the database is the coordinator of a Citus cluster. False until `detectCitus` has found one. */
  isDistributed: boolean
  /** Returns whether the newest connection leads to a read-only server. Behind a pooler, this is not known. */
  isReadOnly(): boolean
  /**
   * Closes all connections that are in use, even in the middle of a statement. Postgres rolls back their open
   * transactions.
   */
  terminateActive(): void
  close(): Promise<void>
}

/** Limits how long a request or a job waits for a connection. */
const connectTimeoutMs = 5_000
/**
 * This is long, because a new connection costs 8 ms: 4 ms to open it, and 4 ms to read catalogs and prepare statements.
 */
const idleConnectionTimeoutMs = 300_000
/**
 * After this time without traffic, TCP sends probes on a connection. The default of Linux is two hours. The probes keep
 * firewalls from dropping the connection. They also detect a dead connection within ten more seconds, so that the pool
 * does not hand out a dead connection.
 */
const keepAliveDelayMs = 10_000

/**
 * Creates a pool. The pool opens a connection when the first statement is sent.
 *
 * @param options.server how to connect, instead of `url`
 */
export function openDatabase(options: DatabaseOptions & { server?: pg.ClientConfig }): Database {
  const { server: given, ...rest } = options
  const withDefaults = {
    poolSize: apiPoolSize,
    preparedStatements: true,
    applicationName: 'accepted',
    listenUrl: options.url,
    ...rest,
  }
  const serverAt = (url: string) => given ?? { connectionString: withoutApplicationName(url) }
  const server = { statements: serverAt(withDefaults.url), listen: serverAt(withDefaults.listenUrl) }
  const connection = {
    ...server.statements,
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
  // Without a listener, the process would end when an idle connection breaks.
  pool.on('error', (error) => {
    // The error may be logged. The pool attaches the client to the error, and the client contains the password.
    delete (error as { client?: unknown }).client
    options.onIdleError?.(markIdleError(error))
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
    server,
    isDistributed: false,
    isReadOnly: () => pool.isReadOnly,
    terminateActive: () => pool.terminateActive(),
    async close() {
      stopChecking()
      await kysely.destroy()
      // Kysely ends the pool only if Kysely has sent a statement.
      if (!pool.ending) await pool.end()
    },
  }
}
