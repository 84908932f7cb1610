import { setTimeout as delay } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import type { Logger } from 'pino'
import { MAX as greatestUuid } from 'uuid'
import type { Database } from '../src/db/database.ts'
import { restAfter } from './chore.ts'

/** Jobs whose keys go in one transaction. */
const jobsAtOnce = 2_000
/** So much of the time that takes: whoever accepts meanwhile is not to wait for the disk. */
const deletingPart = 0.1

/**
 * Makes the partitions of the days ahead, and drops those whose every job has expired, with their keys and attempts.
 * Waits for locks only briefly: it is done again later.
 *
 * @param stopping what is left is done another time
 */
export async function maintainPartitions(
  database: Database,
  log: Logger,
  stopping: AbortSignal = new AbortController().signal,
): Promise<void> {
  try {
    const made = await ask<string>(database, sql`accepted.create_job_partitions()`)
    if (made.length > 0) log.info({ partitions: made }, 'Partitions made')
  } catch (err) {
    log.warn({ err }, 'Partitions could not be made; trying again later')
  }
  try {
    for (;;) {
      const [expired] = await ask<string | null>(database, sql`accepted.expired_job_partition()`)
      if (expired && !(await deleteKeys(database, expired, stopping))) return
      const dropped = await ask<string>(database, sql`accepted.drop_expired_job_partitions()`)
      if (dropped.length === 0) return
      log.info({ partitions: dropped }, 'Partitions dropped')
    }
  } catch (err) {
    log.warn({ err }, 'Partitions could not be dropped; trying again later')
  }
}

/** @returns whether none are left */
async function deleteKeys(database: Database, partition: string, stopping: AbortSignal): Promise<boolean> {
  const deleteSome = (after: string | null) =>
    ask<string | null>(database, sql`accepted.delete_keys_of_jobs(${partition}, ${after}::uuid, ${jobsAtOnce})`)
  let last: string | null = null
  while (last !== greatestUuid && !stopping.aborted) {
    const begunAt = performance.now()
    last = (await deleteSome(last))[0] ?? null
    // Another worker is at it, and goes on.
    if (last === null) return false
    const rest = restAfter(performance.now() - begunAt, deletingPart)
    await delay(rest, undefined, { signal: stopping }).catch(() => {})
  }
  return !stopping.aborted
}

async function ask<Answer>({ kysely }: Database, call: RawBuilder<unknown>): Promise<Answer[]> {
  const { rows } = await sql<{ answer: Answer }>`select ${call} as answer`.execute(kysely)
  return rows.map(({ answer }) => answer)
}
