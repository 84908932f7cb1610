import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import type { Job } from './job.ts'

/** The average run time of each operation, in seconds. */
export type AverageSeconds = ReadonlyMap<string, number>

/**
 * Estimates when a running job will end. Uses the progress that the current attempt has made, or else the average run
 * time of the operation. Progress of earlier attempts does not count: it took no time of the current attempt. An estimate
 * that is already in the past is not used. Returns undefined when there is no estimate.
 */
export function estimateCompletion(job: Job, averages: AverageSeconds, now = Date.now()): Date | undefined {
  if (job.status !== 'running' || !job.attempt_started_at) return undefined
  const startedAt = job.attempt_started_at.getTime()
  const averageSeconds = averages.get(job.operation)
  const runMs = [runMsByProgress(job, startedAt), averageSeconds && averageSeconds * 1000].find(
    (time) => time && startedAt + time > now,
  )
  return runMs ? new Date(startedAt + runMs) : undefined
}

function runMsByProgress({ percent, progress_at, progress_base }: Job, startedAt: number): number | undefined {
  const base = progress_base ?? 0
  if (percent === null || percent <= base || !progress_at) return undefined
  return ((progress_at.getTime() - startedAt) * (100 - base)) / (percent - base)
}

/** Estimates from the run times that this process has read. */
export interface Estimates {
  of(job: Job): Date | undefined
}

const cacheMs = 5_000

/**
 * Creates the estimator of this process. The estimator caches the run times, and refreshes the cache in the background.
 */
export function createEstimates({ kysely }: Database): Estimates {
  let averages: AverageSeconds = new Map()
  let readAt = Number.NEGATIVE_INFINITY

  const read = async () => {
    readAt = performance.now()
    try {
      const { rows } = await sql<{ operation: string; seconds: number }>`
        select operation, seconds from accepted.run_time`.execute(kysely)
      averages = new Map(rows.map(({ operation, seconds }) => [operation, seconds]))
    } catch {
      // The old run times stay in use. Estimates are optional, so the error is ignored.
    }
  }

  return {
    of(job) {
      if (job.status === 'running' && performance.now() - readAt > cacheMs) void read()
      return estimateCompletion(job, averages)
    },
  }
}
