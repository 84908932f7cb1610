import type pg from 'pg'
import { ConfigError } from '../config.ts'
import { connectAlone } from './client.ts'
import type { DatabaseOptions } from './database.ts'
import { errorCode, sqlstate } from './sqlstate.ts'

/** So often two clients are compared: when a pooler is busy they may be given different sessions by chance. */
const comparisons = 3

/** How long a connection or an answer may take, in milliseconds. */
const answersWithin = 5_000

const connect = (connectionString: string) =>
  connectAlone({ connectionString, connectionTimeoutMillis: answersWithin, query_timeout: answersWithin })

const processOf = async (client: pg.Client): Promise<number> =>
  (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid as number

/** A pooler tells its clients a process id of its own making (PostgreSQL manual, BackendKeyData). */
const isPooled = (client: pg.Client, pid: number): boolean =>
  (client as pg.Client & { processID: number | null }).processID !== pid

/**
 * Whether a client is connected through a pooler that lends a session for one transaction at a time, so that what is left
 * in it, a LISTEN or a lock of the session, is left with somebody else.
 *
 * @param url where the client is connected to
 */
export async function sharesSession(client: pg.Client, url: string): Promise<boolean> {
  const pid = await processOf(client)
  if (!isPooled(client, pid)) return false
  const other = await connect(url)
  try {
    for (let comparison = 0; comparison < comparisons; comparison++) {
      if ((await processOf(other)) === pid || (await processOf(client)) !== pid) return true
    }
    return false
  } finally {
    await other.end()
  }
}

/**
 * Does nothing when named prepared statements are off, or arrive. A pooler that lends sessions and knows nothing of them
 * would have one process meet the statements of another.
 *
 * @throws ConfigError
 */
export async function assertPreparedStatements({
  url,
  preparedStatements,
}: Required<Pick<DatabaseOptions, 'url' | 'preparedStatements'>>): Promise<void> {
  if (!preparedStatements) return
  const one = await connect(url)
  try {
    if (isPooled(one, await processOf(one))) await prepareBeside(one, url)
  } catch (cause) {
    if (!poolerErrors.includes(errorCode(cause) ?? '')) throw cause
    throw new ConfigError(withoutPreparedStatements, { cause })
  } finally {
    await one.end()
  }
}

/** Two clients prepare a statement each under the same name; a pooler that knows nothing of them mixes the two up. */
async function prepareBeside(one: pg.Client, url: string): Promise<void> {
  const other = await connect(url)
  try {
    for (const [client, text] of [
      [one, 'select 1'],
      [other, 'select 2'],
      [one, 'select 1'],
    ] as const) {
      await client.query({ name: 'accepted_probe', text })
    }
  } finally {
    await other.end()
  }
}

const poolerErrors: readonly string[] = [sqlstate.duplicatePreparedStatement, sqlstate.invalidSqlStatementName]

const withoutPreparedStatements =
  'DATABASE_URL leads through a pooler that does not carry prepared statements: set DATABASE_PREPARED_STATEMENTS=off (in an app of your own `database: { preparedStatements: false }`), or have PgBouncer 1.21 or later and set its max_prepared_statements.'
