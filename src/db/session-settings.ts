import type pg from 'pg'
import { ConfigError } from '../config.ts'
import { sqlstate } from './sqlstate.ts'

/**
 * Settings that every connection sends when it opens. They decide how Postgres writes and reads values. A database, a
 * role, the URL or `PGOPTIONS` may set them differently. Poolers keep exactly these settings for each client, but
 * reject other settings at this point (PgBouncer manual, `ignore_startup_parameters`).
 */
export const startupSettings: Readonly<Record<string, string>> = {
  DateStyle: 'ISO, MDY',
  standard_conforming_strings: 'on',
  client_encoding: 'UTF8',
}

/**
 * Settings that a connection changes right after it has opened, where a database or a role sets them differently.
 * Behind a pooler in transaction mode this is impossible, because the session belongs to other clients too.
 */
const sessionSettings: Readonly<Record<string, string>> = {
  // Compiling takes longer than any statement of ours.
  jit: 'off',
  // Otherwise Postgres reads NULL in an array parameter as a text.
  array_nulls: 'on',
  // Our locks rely on it: a statement after a wait must see what was committed during the wait.
  default_transaction_isolation: 'read committed',
  bytea_output: 'hex',
  IntervalStyle: 'postgres',
  extra_float_digits: '1',
  quote_all_identifiers: 'off',
  // The pool closes its idle connections itself, and the listener is always idle.
  idle_session_timeout: '0',
}

/** Settings without which accepting or settling goes wrong silently. */
const requiredSettings: Readonly<Record<string, string>> = {
  array_nulls: 'on',
  default_transaction_isolation: 'read committed',
  // With `replica`, no trigger fires. Only a superuser may change it.
  session_replication_role: 'origin',
}

const asValues = (settings: Readonly<Record<string, string>>) =>
  Object.entries(settings)
    .map(([name, value]) => `('${name}', '${value}')`)
    .join(', ')

/**
 * Statements that change {@link sessionSettings} where they differ. They also put `pg_catalog` first in the
 * `search_path`: otherwise a function, an operator or a table of another schema could hide the one of Postgres. They
 * change nothing behind a pooler, which sends its clients an invented process id (PostgreSQL manual, BackendKeyData).
 */
export const pinSession = (processId: number): string => `
  select pg_catalog.set_config('search_path',
    pg_catalog.concat('pg_catalog, ', pg_catalog.current_setting('search_path')), false)
  where pg_catalog.pg_backend_pid() operator(pg_catalog.=) ${processId}
    and (pg_catalog.current_schemas(true))[1] operator(pg_catalog.<>) 'pg_catalog';
  select set_config(name, value, false) from (values ${asValues(sessionSettings)}) as pinned (name, value)
  where pg_backend_pid() = ${processId} and current_setting(name) <> value`

const isReadOnly = "pg_is_in_recovery() or current_setting('transaction_read_only')::boolean"

const readState = `
  select
    (select array_agg(format('%s = %L', name, value)) from (values ${asValues(requiredSettings)}) as required (name, value)
      where current_setting(name) <> value) as unsuitable,
    ${isReadOnly} as read_only, current_database()::text as database,
    current_setting('server_encoding') as encoding,
    current_schemas(true)::text[] as schemas`

/** Returns the error for a database that cannot hold every text. */
const encodingError = (database: string, encoding: string, cause?: unknown): ConfigError =>
  new ConfigError(
    `The database ${database} has the encoding ${encoding}, but Accepted needs UTF8. Create it with: create database ${database} encoding 'UTF8' template template0.`,
    { cause },
  )

/** @throws ConfigError unless the database has the encoding UTF8 */
export function assertEncoding(database: string, encoding: string): void {
  if (encoding !== 'UTF8') throw encodingError(database, encoding)
}

/**
 * Postgres refuses a connection whose encoding it cannot convert, for example from MULE_INTERNAL. Returns an error with
 * the way out for this one, and any other error as it is.
 */
export function explainConnectError(error: unknown, database: string): unknown {
  const { code, severity, message = '' } = error as Partial<Record<'code' | 'severity' | 'message', string>>
  const [encoding] = code === sqlstate.featureNotSupported ? (message.match(/\b(?!UTF8\b)[A-Z][A-Z0-9_]+\b/) ?? []) : []
  return encoding && severity === 'FATAL' ? encodingError(database, encoding, error) : error
}

/** Asks whether the server accepts no writes. Also works behind a pooler. */
export async function isServerReadOnly(pool: pg.Pool): Promise<boolean> {
  const { rows } = await pool.query<{ read_only: boolean }>(`select ${isReadOnly} as read_only`)
  return rows[0]?.read_only === true
}

interface State {
  database: string
  encoding: string
  read_only: boolean
  /** The schemas in which Postgres looks for names, in this order. */
  schemas: string[]
  unsuitable: string[] | null
}

/**
 * Checks the settings that connections cannot change themselves, and that the server accepts writes.
 *
 * @throws ConfigError that names the first unsuitable setting
 */
export async function assertSessionSettings(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<State>(readState)
  const { database, encoding, read_only, schemas, unsuitable } = rows[0] as State
  assertEncoding(database, encoding)
  // Behind a pooler, a session may already have a schema for temporary tables.
  const isHidden = schemas.find((schema) => !schema.startsWith('pg_temp_')) !== 'pg_catalog'
  const setting = isHidden ? 'search_path = pg_catalog, …' : unsuitable?.[0]
  if (setting) {
    throw new ConfigError(
      `The database or the role sets a value that Accepted cannot work with: run \`alter role … set ${setting}\` and \`alter database … set ${setting}\` for those in DATABASE_URL.`,
    )
  }
  if (read_only) {
    throw new ConfigError(
      'The server in DATABASE_URL is read-only: use the URL of the primary, or remove `default_transaction_read_only` from the database or the role.',
    )
  }
}
