import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { findPostmaster } from '../../src/embedded-postgres/postmaster.ts'
import { removeTemporaryServer, startTestPostgres } from '../../src/embedded-postgres/temporary.ts'
import { uuid7 } from '../../src/primitives/uuid.ts'
import type { ServerAccess } from './protocol.ts'

/** A server on which the test processes create databases. */
export interface TestPostgres extends Omit<ServerAccess, 'pid'> {
  /** Removes all databases of this test run. */
  close(): Promise<void>
}

const namePrefix = 'accepted_test_'

export async function startOwn(dataDir: string): Promise<TestPostgres> {
  const postgres = await startTestPostgres(dataDir, 'postgres')
  return { url: postgres.url, prefix: `${namePrefix}own`, close: () => removeTemporaryServer(postgres, dataDir) }
}

/** Uses a running server. Drops databases that killed test runs have left behind. */
export async function useRunning(url: string): Promise<TestPostgres> {
  const client = new pg.Client({ connectionString: url, application_name: 'accepted testing' })
  client.on('error', () => {})
  await client.connect()
  const run = uuid7().replaceAll('-', '').slice(-12)
  try {
    await assertMayCreate(client)
    await client.query('select pg_advisory_lock(hashtext($1))', [namePrefix + run])
    await dropAbandoned(client)
  } catch (error) {
    await client.end()
    throw error
  }
  return {
    url,
    prefix: namePrefix + run,
    async close() {
      await dropDatabases(client, namePrefix + run)
      await client.end()
    },
  }
}

async function assertMayCreate(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ name: string; may_create: boolean }>(
    'select rolname as name, rolcreatedb or rolsuper as may_create from pg_roles where rolname = current_user',
  )
  if (rows[0]?.may_create) return
  throw new Error(
    `The user ${rows[0]?.name} of DATABASE_URL may not create databases, and each test gets its own: ` +
      `run \`alter role ${rows[0]?.name} createdb\`, or use another user.`,
  )
}

/** Each test run holds a lock as long as it lasts. Without the lock, its databases are abandoned. */
async function dropAbandoned(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ prefix: string }>(
    `select distinct substring(datname from '^${namePrefix}[0-9a-f]{12}') as prefix
    from pg_database where datname ~ '^${namePrefix}[0-9a-f]{12}_'`,
  )
  for (const { prefix } of rows) {
    const lock = await client.query('select pg_try_advisory_lock(hashtext($1)) as is_free', [prefix])
    if (!lock.rows[0].is_free) continue
    await dropDatabases(client, prefix)
    await client.query('select pg_advisory_unlock(hashtext($1))', [prefix])
  }
}

async function dropDatabases(client: pg.Client, prefix: string): Promise<void> {
  const { rows } = await client.query('select datname from pg_database where starts_with(datname, $1)', [`${prefix}_`])
  for (const { datname } of rows) await client.query(`drop database if exists ${datname} with (force)`)
}

/** Removes what a killed server process has left behind: its Postgres, if it still runs, and its data. */
export async function removeAbandoned(dataDir: string): Promise<void> {
  const cluster = join(dataDir, 'postgres')
  const pid = await findPostmaster(cluster)
  if (pid) process.kill(pid, 'SIGQUIT')
  await rm(dataDir, { recursive: true, force: true, maxRetries: 10 })
}
