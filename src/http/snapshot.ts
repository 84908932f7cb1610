import type { Job } from '../jobs/job.ts'
import { listJobs } from '../jobs/list.ts'
import type { Service } from './service.ts'

/** Who follows all its jobs is told of so many of the newest ones first. */
export const snapshotSize = 100

/** A principal's newest jobs, oldest first. */
export async function snapshot({ database }: Service, principal: string): Promise<Job[]> {
  const { jobs } = await listJobs(database.kysely, { principal, limit: snapshotSize })
  return jobs.toReversed()
}
