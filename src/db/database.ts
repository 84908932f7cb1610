import { Kysely, type KyselyProps, PostgresDialect, type RawBuilder, sql, Transaction } from 'kysely'
import type pg from 'pg'
import type { AnyTransaction } from '../operation.ts'
import { connectAlone, TracedClient, TracedPool } from './client.ts'
import { breakDeadConnections } from './dead-connections.ts'
import { preparingClient } from './prepare.ts'
import { errorCode, sqlstate } from './sqlstate.ts'
import type { Tables } from './tables.ts'

export interface DatabaseOptions {
  /** `postgres://…`; may lead through a pooler. */
  url: string
  /** A direct one for LISTEN and migrations, when `url` goes through a pooler in transaction mode. Default: `url`. */
  listenUrl?: string
  /** Connections in the pool; default 10. */
  poolSize?: number
  /** Named prepared statements; switch them off for a pooler that cannot carry them. Default true. */
  preparedStatements?: boolean
  /** What `pg_stat_activity.application_name` shows; default `accepted`. */
  applicationName?: string
  /** Told of connections that broke while idle; they are replaced. */
  onIdleError?: (error: Error) => void
}

/** One process's way to Postgres: a pool, and Kysely on top of it. */
export interface Database {
  kysely: Kysely<Tables>
  pool: pg.Pool
  options: Required<Omit<DatabaseOptions, 'onIdleError'>>
  /** Ends the connections that are in use, whatever they are doing; what they have not committed is rolled back. */
  cutOff(): void
  close(): Promise<void>
}

/** How long a request or a job waits for a connection, in milliseconds. */
const connectTimeout = 5_000
/**
 * How long a connection is kept that nobody uses, in milliseconds: a new one takes 4 ms to open, and 4 ms more for
 * its first job, as it reads the catalogs and prepares its statements.
 */
const idleTimeout = 300_000
/**
 * How long a connection is quiet before TCP asks whether it is alive, in milliseconds: Linux would wait for two hours. So
 * no firewall forgets it, and one that is dead is known after ten seconds more, and not handed out.
 */
const keepAliveDelay = 10_000

/** Opens a pool; connects with the first statement. */
export function openDatabase(options: DatabaseOptions): Database {
  const settled = {
    poolSize: 10,
    preparedStatements: true,
    applicationName: 'accepted',
    listenUrl: options.url,
    ...options,
  }
  const connection = {
    connectionString: settled.url,
    application_name: settled.applicationName,
    connectionTimeoutMillis: connectTimeout,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveDelay,
  }
  const pool = new TracedPool({
    ...connection,
    max: settled.poolSize,
    idleTimeoutMillis: idleTimeout,
    Client: settled.preparedStatements ? preparingClient() : TracedClient,
  })
  // Without a listener a connection that breaks while idle would end the process.
  pool.on('error', (error) => {
    // The pool adds its client, which knows more than belongs into a log.
    delete (error as { client?: unknown }).client
    options.onIdleError?.(error)
  })
  const open = new Set<TracedClient>()
  pool.on('connect', (client) => open.add(traced(client)))
  pool.on('remove', (client) => open.delete(traced(client)))
  const inUse = new Set<TracedClient>()
  pool.on('acquire', (client) => inUse.add(traced(client)))
  pool.on('release', (_error, client) => {
    inUse.delete(traced(client))
    // Else what the next one does would be done, or undone, with it.
    if (traced(client).isInTransaction())
      traced(client)
        .end()
        .catch(() => {})
  })
  const stopLooking = breakDeadConnections({
    busy: () => inUse,
    idle: () => [...open].filter((client) => !inUse.has(client)),
    connect: () => connectAlone({ ...connection, query_timeout: connectTimeout }),
  })
  const dialect = new PostgresDialect({ pool })
  const kysely = new Kysely<Tables>({ dialect })
  ours.set(kysely.getExecutor().adapter, { config: { dialect }, dialect, driver: dialect.createDriver() })
  return {
    kysely,
    pool,
    options: settled,
    cutOff() {
      // What is still sent on them rejects, instead of running outside the transaction that is gone.
      for (const client of inUse) client.end().catch(() => {})
    },
    async close() {
      stopLooking()
      // Which ends the pool only when Kysely itself has used it.
      await kysely.destroy()
      if (!pool.ending) await pool.end()
    },
  }
}

// The pool makes its clients of the class it is given, and its types do not say so.
const traced = (client: pg.PoolClient) => client as pg.ClientBase as TracedClient

/** The ways to Postgres on which statements of one turn are sent together, and what a transaction there is made of. */
const ours = new WeakMap<object, Omit<KyselyProps, 'executor'>>()

/**
 * Does things in a transaction that do not wait for each other: in one round trip, where it is a transaction of ours; one
 * after another in an app's own. What sends its statement at once is done in this order, pg-boss's come later. When one has
 * failed, those behind it are not done.
 *
 * @param works begins them, in the transaction that it is given: in the other one each would wait for those before
 */
export async function together<Results extends unknown[]>(
  trx: AnyTransaction,
  works: (trx: AnyTransaction) => { [Index in keyof Results]: Promise<Results[Index]> },
): Promise<Results> {
  const executor = trx.getExecutor()
  const run = async (trx: AnyTransaction) => {
    const settled = await Promise.allSettled(works(trx))
    const reasons = settled.filter((one) => one.status === 'rejected').map(({ reason }) => reason)
    const cause = reasons.find((reason) => errorCode(reason) !== sqlstate.inFailedSqlTransaction)
    if (reasons.length > 0) throw cause ?? reasons[0]
    return settled.map((one) => (one as PromiseFulfilledResult<unknown>).value) as Results
  }
  const props = ours.get(executor.adapter)
  if (!props) return run(trx)
  // Kysely itself sends a transaction's statements one by one.
  return executor.provideConnection((connection) => {
    const unqueued = executor.withConnectionProvider({ provideConnection: (consumer) => consumer(connection) })
    return run(new Transaction({ ...props, executor: unqueued }))
  })
}

/** Makes what sets parameters of Postgres for the rest of a transaction; null is as usual. */
function setParameters(values: Readonly<Record<string, string | null>>) {
  const set = Object.entries(values).map(([name, value]) => sql`set_config(${sql.lit(name)}, ${value}, true)`)
  const statement = sql`select ${sql.join(set)}`
  return async (trx: AnyTransaction): Promise<void> => void (await statement.execute(trx))
}

const plannedOnce = { plan_cache_mode: 'force_generic_plan', enable_seqscan: 'off' }

/**
 * For statements of ours, which find their rows by an index however many there are: they are planned once in a connection.
 * Else Postgres plans them for every call, which takes longer than to run them, or keeps a plan that reads the whole
 * table, which had nothing in it then.
 *
 * Source: PostgreSQL manual, PREPARE, and `plan_cache_mode`.
 */
export const planOnce = setParameters(plannedOnce)

/**
 * As {@link planOnce}, and nobody who has something locked is waited for longer than half a second: that is
 * `lock_not_available` then.
 */
export const planOnceAndWaitBriefly = setParameters({ ...plannedOnce, lock_timeout: '500ms' })

/** For what others do in the transaction. */
export const planAndWaitAsUsual = setParameters({ plan_cache_mode: null, enable_seqscan: null, lock_timeout: null })

/** Ends the transaction, as the last of what is done {@link together}: that costs no round trip of its own. */
export const commit = async (trx: AnyTransaction): Promise<void> => void (await sql`commit`.execute(trx))

/** Runs a statement of ours by itself, planned once: that costs no further round trip. */
export async function runPlannedOnce({ kysely }: Database, statement: RawBuilder<unknown>): Promise<void> {
  await kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    await together(trx, (trx) => [planOnce(trx), statement.execute(trx), commit(trx)])
  })
}

/**
 * Kysely on a `pg` client that already holds an open transaction, for those who do without Kysely.
 *
 * @throws TypeError when the client is in no transaction: what is written would not commit with anything
 */
export function transactionOn(client: pg.ClientBase): AnyTransaction {
  if (client.getTransactionStatus() !== 'T') {
    throw new TypeError('The client is in no transaction: send BEGIN first, and COMMIT afterwards')
  }
  const connection = { query: client.query.bind(client), release: () => {} }
  const pool = { connect: async () => connection, end: async () => {} }
  return new Kysely({ dialect: new PostgresDialect({ pool: pool as unknown as pg.Pool }) }) as unknown as AnyTransaction
}
