import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import type { Job } from './job.ts'

/** How long jobs of an operation have run lately, in seconds. */
export type RunTimes = ReadonlyMap<string, number>

/**
 * When a running job will probably have ended: by its own rate once this attempt has reported progress, else by how long
 * others of its operation ran. None when there is nothing to go by, or when that time has passed already.
 */
export function estimateCompletion(job: Job, runTimes: RunTimes, now = Date.now()): Date | undefined {
  if (job.state !== 'running' || !job.attempt_started_at) return undefined
  const begun = job.attempt_started_at.getTime()
  const own = job.percent && job.progress_at && ((job.progress_at.getTime() - begun) * 100) / job.percent
  const usual = runTimes.get(job.operation)
  const takes = [own, usual && usual * 1000].find((time) => time && begun + time > now)
  return takes ? new Date(begun + takes) : undefined
}

/** The run times of all operations, as a process knows them. */
export interface Estimates {
  of(job: Job): Date | undefined
}

/** How long what was read serves, in milliseconds. */
const freshFor = 5_000

/** Keeps the run times at hand: reads the small table again, in the background, when they are asked for and old. */
export function createEstimates({ kysely }: Database): Estimates {
  let runTimes: RunTimes = new Map()
  let readAt = Number.NEGATIVE_INFINITY

  const read = async () => {
    readAt = performance.now()
    try {
      const { rows } = await sql<{ operation: string; seconds: number }>`
        select operation, seconds from accepted.run_time`.execute(kysely)
      runTimes = new Map(rows.map(({ operation, seconds }) => [operation, seconds]))
    } catch {
      // An old estimate is better than none, and none does no harm.
    }
  }

  return {
    of(job) {
      if (job.state === 'running' && performance.now() - readAt > freshFor) void read()
      return estimateCompletion(job, runTimes)
    },
  }
}
