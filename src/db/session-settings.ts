import type pg from 'pg'
import { ConfigError } from '../config.ts'

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
  server_encoding: 'UTF8',
}

const asValues = (settings: Readonly<Record<string, string>>) =>
  Object.entries(settings)
    .map(([name, value]) => `('${name}', '${value}')`)
    .join(', ')

/**
 * A statement that changes {@link sessionSettings} where they differ. It changes nothing behind a pooler, which sends
 * its clients an invented process id (PostgreSQL manual, BackendKeyData).
 */
export const pinSession = (processId: number): string => `
  select set_config(name, value, false) from (values ${asValues(sessionSettings)}) as pinned (name, value)
  where pg_backend_pid() = ${processId} and current_setting(name) <> value`

const isReadOnly = "pg_is_in_recovery() or current_setting('transaction_read_only')::boolean"

const readUnsuitable = `
  select
    (select array_agg(format('%s = %L', name, value)) from (values ${asValues(requiredSettings)}) as required (name, value)
      where current_setting(name) <> value) as unsuitable,
    ${isReadOnly} as read_only`

/** Asks whether the server accepts no writes. Also works behind a pooler. */
export async function isServerReadOnly(pool: pg.Pool): Promise<boolean> {
  const { rows } = await pool.query<{ read_only: boolean }>(`select ${isReadOnly} as read_only`)
  return rows[0]?.read_only === true
}

/**
 * Checks the settings that connections cannot change themselves, and that the server accepts writes.
 *
 * @throws ConfigError that names the first unsuitable setting
 */
export async function assertSessionSettings(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ unsuitable: string[] | null; read_only: boolean }>(readUnsuitable)
  const [row] = rows
  const [setting] = row?.unsuitable ?? []
  if (setting?.startsWith('server_encoding')) {
    throw new ConfigError(
      "The database has an encoding other than UTF8: create it with `encoding 'UTF8'`, and run `accepted migrate`.",
    )
  }
  if (setting) {
    throw new ConfigError(
      `The database or the role sets a value that Accepted cannot work with: run \`alter role … set ${setting}\` and \`alter database … set ${setting}\` for those in DATABASE_URL.`,
    )
  }
  if (row?.read_only) {
    throw new ConfigError(
      'The server in DATABASE_URL is read-only: use the URL of the primary, or remove `default_transaction_read_only` from the database or the role.',
    )
  }
}
