import { type Database, openDatabase } from '../db/database.ts'
import { databaseOptions, readSettings, requireDatabaseUrl } from '../settings.ts'

/** Opens the database, runs the work of a command, and closes the database. */
export async function withDatabase<Result>(
  work: (db: Database['kysely'], database: Database) => Promise<Result>,
): Promise<Result> {
  const settings = readSettings()
  const database = openDatabase({ ...databaseOptions(settings, requireDatabaseUrl(settings)), poolSize: 2 })
  try {
    return await work(database.kysely, database)
  } finally {
    await database.close()
  }
}
