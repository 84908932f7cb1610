import { setTimeout as delay } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'
import { errorCode, sqlstate } from '../src/db/sqlstate.ts'
import { restAfter } from './chore.ts'

/** Pages of each table that one transaction reads, and deletes from: a thousand keys or so. */
const pagesAtOnce = 16
/** Jobs that go in one transaction, where they have no partition that is dropped. */
const jobsAtOnce = 1_000
/** Who has a table locked that is to change is waited for so often, briefly, as all others wait behind that. */
const tries = 3
/** The pause between them, at least, in milliseconds. */
const pause = 500
/** So much of the time that takes: whoever accepts meanwhile is not to wait for the disk. */
const deletingPart = 0.1

/**
 * Makes the partitions of the days ahead, and drops those of the days whose every job has expired, with their keys and
 * attempts. What cannot be done because of a lock is done another time.
 *
 * @param stopping what is left is done another time
 */
export async function maintainPartitions(
  database: Database,
  log: Logger,
  stopping: AbortSignal = new AbortController().signal,
): Promise<void> {
  try {
    const made = await ask<string>(database, sql`accepted.create_job_partitions()`, stopping)
    if (made.length > 0) log.info({ partitions: made }, 'Partitions made')
  } catch (err) {
    log.warn({ err }, 'Partitions could not be made; trying again later')
  }
  try {
    for (;;) {
      const [day] = await ask<string | null>(database, sql`accepted.begin_expiry()::text`, stopping)
      if (!day || !(await deleteDay(database, day, stopping))) return
      log.info({ day }, 'Jobs of a day that has expired deleted')
    }
  } catch (err) {
    log.warn({ err }, 'Jobs that have expired could not be deleted; trying again later')
  }
}

/** @returns whether all of it is gone: not when another worker is at it, this one stops, or a job has come back to life */
async function deleteDay(database: Database, day: string, stopping: AbortSignal): Promise<boolean> {
  const keys = sql`accepted.delete_keys_of_day(${day}::date, ${pagesAtOnce})`
  const jobs = sql`accepted.delete_jobs_of_day(${day}::date, ${jobsAtOnce})`
  return (await bySteps(database, keys, stopping)) && (await bySteps(database, jobs, stopping))
}

/** Takes steps as long as there are more, with rests. A step answers whether there are, or null: it is not its turn. */
async function bySteps(database: Database, step: RawBuilder<unknown>, stopping: AbortSignal): Promise<boolean> {
  while (!stopping.aborted) {
    const begunAt = performance.now()
    const [hasMore] = await ask<boolean | null>(database, step, stopping)
    if (!hasMore) return hasMore === false
    const rest = restAfter(performance.now() - begunAt, deletingPart)
    await delay(rest, undefined, { signal: stopping }).catch(() => {})
  }
  return false
}

async function ask<Answer>({ kysely }: Database, call: RawBuilder<unknown>, stopping: AbortSignal): Promise<Answer[]> {
  for (let round = 1; ; round++) {
    try {
      const { rows } = await sql<{ answer: Answer }>`select ${call} as answer`.execute(kysely)
      return rows.map(({ answer }) => answer)
    } catch (error) {
      const again = errorCode(error) === sqlstate.lockNotAvailable && round < tries && !stopping.aborted
      if (!again) throw error
      await delay(pause * (1 + Math.random()), undefined, { signal: stopping }).catch(() => {})
    }
  }
}
