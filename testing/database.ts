import { createHash } from 'node:crypto'
import pg from 'pg'
import { ownDirectory, readMigrations } from '../src/migrate/files.ts'
import { migrate } from '../src/migrate/migrate.ts'
import { uuid7 } from '../src/primitives/uuid.ts'
import { connectTestServer, type TestServer } from './server/connect.ts'

/** A database for one test kit. */
export interface TestDatabase {
  url: string
  drop(): Promise<void>
}

/**
 * Creates a database from a template that has the schema of Accepted and the tables of the app.
 *
 * @param serverUrl the URL of a running Postgres. Undefined: the test server has its own.
 * @param migrations the directory of the app's own migrations
 */
export async function createTestDatabase(
  serverUrl: string | undefined,
  migrations: string | undefined,
): Promise<TestDatabase> {
  const server = await connectTestServer(serverUrl)
  const template = await server.template(await templateKey(migrations), (name) =>
    makeTemplate(server, name, migrations),
  )
  const name = `${server.prefix}_${uuid7().replaceAll('-', '')}`
  // Copying files is several times faster than the default strategy, which writes all pages to the WAL.
  await run(server, `create database ${name} template ${template} strategy file_copy`)
  return {
    url: urlOf(server, name),
    drop: () => run(server, `drop database if exists ${name} with (force)`),
  }
}

/** Templates of the same migrations are the same. */
async function templateKey(migrations: string | undefined): Promise<string> {
  const own = await readMigrations('accepted', ownDirectory)
  const ofApp = migrations ? await readMigrations('app', migrations) : []
  const hash = createHash('sha256')
  for (const { source, name, checksum } of [...own, ...ofApp]) hash.update(`${source} ${name} ${checksum}\n`)
  return hash.digest('hex')
}

async function makeTemplate(server: TestServer, name: string, appMigrations: string | undefined): Promise<void> {
  // The server may have another encoding by default.
  await run(server, `create database ${name} template template0 encoding 'UTF8'`)
  await migrate({ url: urlOf(server, name), ...(appMigrations && { appMigrations }) })
}

function urlOf(server: TestServer, database: string): string {
  const url = new URL(server.url)
  url.pathname = `/${database}`
  return url.href
}

async function run({ url }: TestServer, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
