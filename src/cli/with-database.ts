import { readSettings, requireDatabaseUrl } from '../config.ts'
import { type Database, openDatabase } from '../db/database.ts'

/** Opens the database for as long as a command works with it. */
export async function withDatabase<Result>(
  work: (db: Database['kysely'], database: Database) => Promise<Result>,
): Promise<Result> {
  const database = openDatabase({ url: requireDatabaseUrl(readSettings()), poolSize: 2 })
  try {
    return await work(database.kysely, database)
  } finally {
    await database.close()
  }
}
