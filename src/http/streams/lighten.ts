import { type Job, maxSharedResultBytes } from '../../jobs/job.ts'

/** All slow clients of the process share one copy of a job. */
const lightened = new WeakMap<Job, Job>()

/**
 * Returns a job without its result if the result is large. Events that wait for a slow client are kept like this.
 * Otherwise one client that does not read could fill the memory with the results of all its jobs.
 */
export function lighten(job: Job): Job {
  if (job.result === null || job.result === undefined) return job
  const known = lightened.get(job)
  if (known) return known
  const isLarge = JSON.stringify(job.result).length > maxSharedResultBytes
  const light = isLarge ? { ...job, result: null } : job
  lightened.set(job, light)
  return light
}
