import type { Database } from '../../db/database.ts'
import type { ChangePosition } from '../../jobs/change-position.ts'
import { readChangePosition } from '../../jobs/changes.ts'
import type { Job } from '../../jobs/job.ts'
import { listJobs } from '../../jobs/list.ts'

/** A client that follows all its jobs first receives this many of its newest jobs. */
export const snapshotSize = 100

/** The newest jobs of a principal. */
export interface Snapshot {
  /**
   * `jobs` contains every change up to this position, except changes of jobs that are older than the oldest job in
   * `jobs`.
   */
  since: ChangePosition
  /** The oldest job comes first. */
  jobs: readonly Job[]
}

/**
 * Creates the function that reads snapshots. Calls for the same principal during a read share the next read. A snapshot
 * is therefore never older than the call. Any number of simultaneous calls cause at most two reads.
 */
export function createSnapshotReader({ kysely }: Database): (principal: string) => Promise<Snapshot> {
  const currentReads = new Map<string, Promise<Snapshot>>()
  const nextReads = new Map<string, Promise<Snapshot>>()

  const read = async (principal: string): Promise<Snapshot> => {
    const since = await readChangePosition(kysely)
    const { jobs } = await listJobs(kysely, { principal, limit: snapshotSize })
    return { since, jobs: jobs.toReversed() }
  }
  const readAfter = async (principal: string, previousRead: Promise<Snapshot> | undefined) => {
    await previousRead?.catch(() => {})
    nextReads.delete(principal)
    const currentRead = read(principal)
    currentReads.set(principal, currentRead)
    try {
      return await currentRead
    } finally {
      if (currentReads.get(principal) === currentRead) currentReads.delete(principal)
    }
  }

  return (principal) => {
    const nextRead = nextReads.get(principal) ?? readAfter(principal, currentReads.get(principal))
    nextReads.set(principal, nextRead)
    return nextRead
  }
}
