import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'

/**
 * Makes the partitions of the days ahead, and drops those whose every job has expired, with their keys and attempts.
 * Waits for locks only briefly: it is done again later.
 */
export async function maintainPartitions({ kysely }: Database, log: Logger): Promise<void> {
  for (const [statement, did] of [
    [sql<{ name: string }>`select accepted.create_job_partitions() as name`, 'made'],
    [sql<{ name: string }>`select accepted.drop_expired_job_partitions() as name`, 'dropped'],
  ] as const) {
    try {
      const { rows } = await statement.execute(kysely)
      if (rows.length > 0) log.info({ partitions: rows.map(({ name }) => name) }, `Partitions ${did}`)
    } catch (err) {
      log.warn({ err }, `Partitions could not be ${did}; trying again later`)
    }
  }
}
