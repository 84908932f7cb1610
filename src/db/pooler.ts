import type pg from 'pg'
import { ConfigError } from '../config.ts'
import type { Database } from './database.ts'
import { connectOutsidePool } from './pool.ts'
import { errorCode, sqlstate } from './sqlstate.ts'

/**
 * How often the sessions of two clients are compared. Once is not enough, because a busy pooler may give two clients
 * different sessions by chance.
 */
const maxComparisons = 3

/** Limits how long connecting and each statement may take. */
const probeTimeoutMs = 5_000

const connect = (server: pg.ClientConfig) =>
  connectOutsidePool({ ...server, connectionTimeoutMillis: probeTimeoutMs, query_timeout: probeTimeoutMs })

const backendPid = async (client: pg.Client): Promise<number> =>
  (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid as number

/**
 * Returns whether the client is behind a pooler. A pooler sends its clients an invented process id (PostgreSQL manual,
 * BackendKeyData).
 */
const isPooled = (client: pg.Client, pid: number): boolean =>
  (client as pg.Client & { processID: number | null }).processID !== pid

/**
 * Returns whether the client is behind a pooler that assigns a session only for one transaction. Behind such a pooler,
 * LISTEN and session locks do not work, because another client gets the session next.
 *
 * @param server what the client is connected to
 */
export async function sharesSession(client: pg.Client, server: pg.ClientConfig): Promise<boolean> {
  const pid = await backendPid(client)
  if (!isPooled(client, pid)) return false
  const other = await connect(server)
  try {
    for (let comparison = 0; comparison < maxComparisons; comparison++) {
      if ((await backendPid(other)) === pid || (await backendPid(client)) !== pid) return true
    }
    return false
  } finally {
    await other.end()
  }
}

/**
 * Checks that named prepared statements work, unless they are switched off. If a pooler shares sessions and does not
 * track prepared statements, a process could run the prepared statement of another process.
 *
 * @throws ConfigError when the pooler does not support prepared statements
 */
export async function assertPreparedStatements({
  options,
  server,
}: Pick<Database, 'options' | 'server'>): Promise<void> {
  if (!options.preparedStatements) return
  const client = await connect(server.statements)
  try {
    if (isPooled(client, await backendPid(client))) await prepareSameName(client, server.statements)
  } catch (cause) {
    if (!poolerErrors.includes(errorCode(cause) ?? '')) throw cause
    throw new ConfigError(preparedStatementsUnsupported, { cause })
  } finally {
    await client.end()
  }
}

/**
 * Prepares two different statements under the same name on two clients. Rejects when a pooler mixes up the two
 * statements.
 */
async function prepareSameName(client: pg.Client, server: pg.ClientConfig): Promise<void> {
  const other = await connect(server)
  try {
    for (const [preparer, text] of [
      [client, 'select 1'],
      [other, 'select 2'],
      [client, 'select 1'],
    ] as const) {
      await preparer.query({ name: 'accepted_probe', text })
    }
  } finally {
    await other.end()
  }
}

const poolerErrors: readonly string[] = [sqlstate.duplicatePreparedStatement, sqlstate.invalidSqlStatementName]

const preparedStatementsUnsupported =
  'DATABASE_URL leads through a pooler that does not support prepared statements: set DATABASE_PREPARED_STATEMENTS=off (in code: `database: { preparedStatements: false }`), or use PgBouncer 1.21 or later with max_prepared_statements.'
