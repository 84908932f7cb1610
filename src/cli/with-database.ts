import { databaseOptions, readSettings, requireDatabaseUrl } from '../config.ts'
import { type Database, openDatabase } from '../db/database.ts'

/** Opens the database for as long as a command works with it. */
export async function withDatabase<Result>(work: (db: Database['kysely']) => Promise<Result>): Promise<Result> {
  const settings = readSettings()
  const database = openDatabase({ ...databaseOptions(settings, requireDatabaseUrl(settings)), poolSize: 1 })
  try {
    return await work(database.kysely)
  } finally {
    await database.close()
  }
}
