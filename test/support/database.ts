import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'

export const adminUrlVariable = 'ACCEPTED_TEST_DATABASE_URL'

/** A migrated database, with the tables of the example app too. */
export const templateName = 'accepted_template'

function adminUrl(database: string): string {
  const template = process.env[adminUrlVariable]
  if (!template) throw new Error('Run the tests with `npm test`, which starts a Postgres for them')
  const url = new URL(template)
  url.pathname = `/${database}`
  return url.href
}

/** Runs one statement as the owner of the server. */
async function administer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl('postgres') })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

/**
 * A database of the test's own; dropped when the test has passed, and kept, with a word where, when it has failed.
 *
 * @param options.empty without any schema
 */
export async function createDatabase(t: Test, options: { empty?: boolean } = {}): Promise<string> {
  const name = `test_${randomBytes(6).toString('hex')}`
  // Copied as files, and not through the WAL, which takes several times as long.
  await administer(`create database ${name}${options.empty ? '' : ` template ${templateName} strategy file_copy`}`)
  const url = adminUrl(name)
  t.teardown(async () => {
    if (t.passing()) await administer(`drop database ${name} with (force)`)
    else t.comment(`the database is kept: ${name}`)
  })
  return url
}

/** A database of the test's own, opened as the product opens it. */
export async function openTestDatabase(t: Test): Promise<Database> {
  const database = openDatabase({ url: await createDatabase(t) })
  t.teardown(() => database.close())
  return database
}
