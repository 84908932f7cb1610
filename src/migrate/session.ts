import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { ConfigError } from '../config.ts'
import { connectOutsidePool } from '../db/pool.ts'
import { sharesSession } from '../db/pooler.ts'
import { markPostgresError } from '../db/postgres-error.ts'

/**
 * The settings that a migration relies on, whatever the database and the role set. A timeout of 0 means no timeout: a
 * migration may wait and run for long.
 */
const settings: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  jit: 'off',
  datestyle: 'ISO, MDY',
  intervalstyle: 'postgres',
  array_nulls: 'on',
  quote_all_identifiers: 'off',
  standard_conforming_strings: 'on',
  default_transaction_isolation: 'read committed',
  lock_timeout: '0',
  statement_timeout: '0',
  idle_session_timeout: '0',
  idle_in_transaction_session_timeout: '0',
}

/**
 * The settings of the URL, the database and the role apply to all others, also after a file has changed them. Every
 * name and operator is qualified, because the `search_path` may lead to others of the same name.
 */
export const applySettings = `
reset all;
reset role;
${Object.entries(settings)
  .map(([name, value]) => `set ${name} = '${value}';`)
  .join('\n')}
-- Postgres 17 and later.
select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings
where name operator(pg_catalog.=) 'transaction_timeout';
-- The default without this setting is the same, but Postgres refuses to create a partitioned table with it.
select pg_catalog.set_config('default_tablespace', '', false)
from pg_catalog.pg_database join pg_catalog.pg_tablespace as space on space.oid operator(pg_catalog.=) dattablespace
where datname operator(pg_catalog.=) pg_catalog.current_database()
  and spcname operator(pg_catalog.=) pg_catalog.current_setting('default_tablespace');
`

/** Hides the tables of the app, and objects with names like those of Postgres. Our own files qualify every name. */
export const useEmptySearchPath = "select pg_catalog.set_config('search_path', '', false);"

/** Key of the advisory lock that serialises concurrent migrations. */
const migrationLockKey = '7226853417'

/**
 * How often a process that waits for another one looks whether the lock is free. It must not wait inside a statement: a
 * statement holds a snapshot, and `create index concurrently` of the other process would wait for its end.
 */
const lockPollIntervalMs = 200

type Row = Record<string, string | null>

/** The only connection of a run of `accepted migrate`. */
export class MigrationSession {
  readonly #client: pg.Client

  private constructor(client: pg.Client) {
    this.#client = client
  }

  /**
   * Connects, and sets the settings of the session.
   *
   * @throws ConfigError when the URL leads through a pooler in transaction mode
   */
  static async open(url: string): Promise<MigrationSession> {
    const client = await connectOutsidePool({
      connectionString: url,
      application_name: 'accepted migrate',
      keepAlive: true,
    })
    const session = new MigrationSession(client)
    try {
      if (await sharesSession(client, { connectionString: url })) {
        throw new ConfigError(
          'Migrations need a session of their own, but DATABASE_URL leads through a pooler in transaction mode: ' +
            'set DATABASE_LISTEN_URL to the URL of Postgres itself.',
        )
      }
      await session.query(applySettings + useEmptySearchPath)
      return session
    } catch (error) {
      await session.close()
      throw markPostgresError(error)
    }
  }

  async query(text: string): Promise<Row[]> {
    try {
      const { rows } = await this.#client.query<Row>(text)
      return rows ?? []
    } catch (error) {
      throw markPostgresError(error)
    }
  }

  /**
   * Takes the lock of the migrations. Waits as long as another process holds it.
   *
   * @param onWait called once before waiting, with the process id of the session that holds the lock
   */
  async waitForTurn(onWait?: (holder: string) => void): Promise<void> {
    for (let isFirst = true; ; isFirst = false) {
      const locked = await this.query(`select where pg_catalog.pg_try_advisory_lock(${migrationLockKey})`)
      if (locked.length > 0) return
      if (isFirst) onWait?.(await this.#findHolder())
      await delay(lockPollIntervalMs)
    }
  }

  async #findHolder(): Promise<string> {
    const [row] = await this.query(`
      select pid::text from pg_catalog.pg_locks
      where locktype = 'advisory' and granted and (classid::bigint << 32 | objid::bigint) = ${migrationLockKey}
        and database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())`)
    return row?.pid ?? 'unknown'
  }

  /** Closes the connection. Postgres rolls back an open transaction and releases the lock. */
  close(): Promise<void> {
    return this.#client.end().catch(() => {})
  }
}
