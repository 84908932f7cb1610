import { type RawBuilder, sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'

/**
 * Makes the partitions of the days ahead, and drops those whose every job has expired, with their keys and attempts.
 * Waits for locks only briefly: it is done again later.
 */
export async function maintainPartitions({ kysely }: Database, log: Logger): Promise<void> {
  const names = async (statement: RawBuilder<{ name: string }>) =>
    (await statement.execute(kysely)).rows.map(({ name }) => name)
  try {
    const made = await names(sql`select accepted.create_job_partitions() as name`)
    if (made.length > 0) log.info({ partitions: made }, 'Partitions made')
  } catch (err) {
    log.warn({ err }, 'Partitions could not be made; trying again later')
  }
  try {
    // Each in a transaction of its own.
    for (;;) {
      const dropped = await names(sql`select accepted.drop_expired_job_partitions() as name`)
      if (dropped.length === 0) return
      log.info({ partitions: dropped }, 'Partitions dropped')
    }
  } catch (err) {
    log.warn({ err }, 'Partitions could not be dropped; trying again later')
  }
}
