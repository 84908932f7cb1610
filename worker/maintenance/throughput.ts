import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'

/** Adds the next full hour to `accepted.throughput_hour`, if there is one. */
export async function recordThroughput({ kysely }: Database): Promise<void> {
  await sql`select accepted.record_throughput()`.execute(kysely)
}
