import { readSettings, requireDatabaseUrl } from '../config.ts'
import { type Database, openDatabase } from '../db/database.ts'

/** Opens the database for as long as a command works with it. */
export async function withDatabase<Result>(work: (db: Database['kysely']) => Promise<Result>): Promise<Result> {
  const database = openDatabase({ url: requireDatabaseUrl(readSettings()), poolSize: 1 })
  try {
    return await work(database.kysely)
  } finally {
    await database.close()
  }
}
