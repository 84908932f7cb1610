import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { type Database, type DatabaseOptions, openDatabase } from '../../src/db/database.ts'
import { roles } from '../../src/migrate/grants.ts'
import { rolesForDba } from '../../src/migrate/roles.ts'

export const adminUrlVariable = 'ACCEPTED_TEST_DATABASE_URL'

/**
 * Names a migrated database that also has the tables of the example app. Each day has its own, because migrations create
 * partitions for the days from today on.
 */
export const templateName = (): string =>
  `accepted_template_${new Date().toISOString().slice(0, 10).replaceAll('-', '')}`

const exampleMigrations = join(import.meta.dirname, '../../examples/todos/migrations')

function adminUrl(database: string): string {
  const template = process.env[adminUrlVariable]
  if (!template)
    throw new Error(`${adminUrlVariable} is not set. Run the tests with \`npm test\`, which starts Postgres.`)
  const url = new URL(template)
  url.pathname = `/${database}`
  return url.href
}

/** Returns the URL of a database to which a test may connect, on the server of the tests, as a superuser. */
export const serverUrl = (): string => adminUrl('postgres')

/** The roles under which the tests run the commands. None is a superuser. */
const testRoles = {
  api: 'accepted_test_api',
  console: 'accepted_test_console',
  operator: 'accepted_test_operator',
  worker: 'accepted_test_worker',
  'api --with-worker': 'accepted_test_both',
  migrate: 'accepted_test_migrator',
} as const

const groupsOf: Readonly<Record<keyof typeof testRoles, string>> = {
  api: roles.api,
  console: `${roles.api}, ${roles.operator}`,
  operator: roles.operator,
  worker: roles.worker,
  'api --with-worker': `${roles.api}, ${roles.worker}`,
  migrate: roles.owner,
}

const testPassword = 'accepted'

/**
 * Returns the URL, or the options, with the role of a command such as `api` instead of the superuser. Leaves other users
 * as they are. On a server that a test has started itself, the test calls {@link createTestRoles} first.
 */
export function asRole<Given extends string | DatabaseOptions>(given: Given, command: string): Given {
  if (typeof given !== 'string') {
    const { url, listenUrl } = given as DatabaseOptions
    return {
      ...(given as object),
      url: asRole(url, command),
      ...(listenUrl && { listenUrl: asRole(listenUrl, command) }),
    } as Given
  }
  if (!URL.canParse(given) || !Object.hasOwn(testRoles, command)) return given
  const url = new URL(given)
  const admin = process.env[adminUrlVariable]
  if (url.username !== (admin ? new URL(admin).username : 'postgres')) return given
  url.username = testRoles[command as keyof typeof testRoles]
  url.password = testPassword
  return url.href as Given
}

/** The users of all roles, for a pooler. */
export const usersOf = (url: string): { username: string; password: string }[] =>
  ['none', ...Object.keys(testRoles)].map((command) => new URL(asRole(url, command)))

/**
 * Creates the group roles and the roles of the tests, and lets them use a database.
 *
 * @param url the URL of the database, as a superuser
 */
export async function createTestRoles(url: string): Promise<void> {
  await queryOnce(url, rolesForDba())
  for (const command of Object.keys(testRoles) as (keyof typeof testRoles)[]) {
    const [name, groups] = [testRoles[command], groupsOf[command]]
    const [existing] = await queryOnce(url, 'select from pg_roles where rolname = $1', [name])
    if (!existing) await queryOnce(url, `create role ${name} login password '${testPassword}' in role ${groups}`)
  }
  await allowTestRoles(url)
}

/** Lets the roles of the tests use a database: the migrator creates tables, and the others use the tables of tests. */
async function allowTestRoles(url: string): Promise<void> {
  const name = new URL(url).pathname.slice(1)
  await queryOnce(
    url,
    `grant create on database ${name} to ${testRoles.migrate};
    grant create on schema public to ${testRoles.migrate};
    alter default privileges in schema public grant all on tables to ${roles.api}, ${roles.worker};
    alter default privileges in schema public grant all on sequences to ${roles.api}, ${roles.worker}`,
  )
}

/** Runs one statement over a new connection and returns the rows. */
// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
export async function queryOnce(url: string, text: string, values: unknown[] = []): Promise<any[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
  // Fault tests crash the server while this connection is open. The pending query rejects, so the event is ignored.
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end().catch(() => {})
  }
}

/**
 * Creates a database for one test. If the test passes, the database is dropped. Otherwise it is kept, and its name is
 * printed.
 *
 * @param options.empty creates a database without any schema
 */
export async function createDatabase(t: Test, options: { empty?: boolean } = {}): Promise<string> {
  const name = `test_${randomBytes(6).toString('hex')}`
  // Copying files is several times faster than the default strategy, which writes all pages to the WAL.
  // The server may have another encoding by default.
  await (options.empty ? createEmpty(name) : copyTemplate(name))
  const url = adminUrl(name)
  if (options.empty) await allowTestRoles(url)
  t.teardown(async () => {
    if (t.passing()) await queryOnce(adminUrl('postgres'), `drop database ${name} with (force)`)
    else t.comment(`kept the database of this failed test: ${name}`)
  })
  return url
}

const createEmpty = (name: string) =>
  queryOnce(adminUrl('postgres'), `create database ${name} template template0 encoding 'UTF8'`)

/** Makes the template first if a new day has begun since the tests started. */
async function copyTemplate(name: string): Promise<void> {
  const template = templateName()
  // Copying files is several times faster than the default strategy, which writes all pages to the WAL.
  const copy = () => queryOnce(adminUrl('postgres'), `create database ${name} template ${template} strategy file_copy`)
  await copy().catch(async (error) => {
    if (error.code !== '3D000') throw error
    await makeTemplate(template)
    await copy()
  })
}

/** Makes a template, unless another process has made it. */
export async function makeTemplate(template: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl('postgres') })
  await client.connect()
  try {
    await client.query("select pg_advisory_lock(hashtext('template of the tests'))")
    const { rowCount } = await client.query('select from pg_database where datname = $1', [template])
    if (rowCount) return
    // Other processes must not find it half made.
    const unfinished = `${template}_unfinished`
    await client.query(`drop database if exists ${unfinished} with (force)`)
    await createEmpty(unfinished)
    await createTestRoles(adminUrl(unfinished))
    // Only one process makes a template, and the others do without these modules.
    const { migrate } = await import('../../src/migrate/migrate.ts')
    await migrate({ url: asRole(adminUrl(unfinished), 'migrate'), appMigrations: exampleMigrations })
    await client.query(`alter database ${unfinished} rename to ${template}`)
  } finally {
    await client.end()
  }
}

/** Creates a database for one test and opens it with the pool settings of the product. */
export async function openTestDatabase(t: Test): Promise<Database> {
  const database = openDatabase({ url: await createDatabase(t) })
  t.teardown(() => database.close())
  return database
}

/** A transaction that the test holds open. */
export interface OpenTransaction {
  client: pg.PoolClient
  commit(): Promise<void>
}

/** Begins a transaction and runs a statement in it, usually to take locks. Teardown rolls back an open transaction. */
export async function beginTransaction(
  t: Test,
  { pool }: Pick<Database, 'pool'>,
  statement: string,
): Promise<OpenTransaction> {
  const client = await pool.connect()
  let isCommitted = false
  // `release(true)` closes the connection, and Postgres rolls back.
  t.teardown(() => client.release(!isCommitted))
  await client.query('begin')
  await client.query(statement)
  return {
    client,
    async commit() {
      await client.query('commit')
      isCommitted = true
    },
  }
}

type Query = (text: string, values: unknown[]) => Promise<{ pid: number }[]>

/**
 * Returns the pids of the backends that wait for a lock.
 *
 * @param pattern an `ilike` pattern for the waiting statement
 */
export async function findBlockedBackends(query: Query, pattern = '%'): Promise<number[]> {
  const rows = await query(
    `select pid from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query ilike $1`,
    [pattern],
  )
  return rows.map(({ pid }) => pid)
}
