import type { Database } from '../db/database.ts'
import { readHorizon } from '../jobs/changes.ts'
import type { Job } from '../jobs/job.ts'
import { listJobs } from '../jobs/list.ts'

/** Who follows all its jobs is told of so many of the newest ones first. */
export const snapshotSize = 100

/** A principal's newest jobs. */
export interface Snapshot {
  /** Of what changed before then, everything is in it, or older than all that is; see {@link readHorizon}. */
  since: Date
  /** Oldest first. */
  jobs: readonly Job[]
}

/**
 * Makes the reading of snapshots. Those who ask for the same one while it is being read share the next: none is older
 * than the asking, and however many come at once, two are read.
 */
export function createSnapshots({ kysely }: Database): (principal: string) => Promise<Snapshot> {
  const current = new Map<string, Promise<Snapshot>>()
  const next = new Map<string, Promise<Snapshot>>()

  const read = async (principal: string): Promise<Snapshot> => {
    const since = await readHorizon(kysely)
    const { jobs } = await listJobs(kysely, { principal, limit: snapshotSize })
    return { since, jobs: jobs.toReversed() }
  }
  const readAfter = async (principal: string, before: Promise<Snapshot> | undefined) => {
    await before?.catch(() => {})
    next.delete(principal)
    const reading = read(principal)
    current.set(principal, reading)
    try {
      return await reading
    } finally {
      if (current.get(principal) === reading) current.delete(principal)
    }
  }

  return (principal) => {
    const joined = next.get(principal) ?? readAfter(principal, current.get(principal))
    next.set(principal, joined)
    return joined
  }
}
