import type { Job } from '../jobs/job.ts'
import { toMonitor } from '../jobs/monitor.ts'
import type { Monitor } from '../jobs/monitor-schema.ts'
import type { Site } from '../jobs/site.ts'
import type { Core } from './core.ts'

/** The rows from which the jobs that the app got were made, for `reply.accepted`. */
const rows = new WeakMap<Monitor, Job>()

/** Creates a function that makes what the app gets of a job: the members of the monitor, as the job's owner sees them. */
export function createShow({ results, estimates }: Core, site: Site) {
  return (job: Job): Monitor => {
    const shown = toMonitor(job, site, estimates.of(job), results.show(job, job.principal, job.result))
    rows.set(shown, job)
    return shown
  }
}

/** Returns the row of a job that {@link createShow} has shown. */
export const rowOf = (shown: Monitor): Job | undefined => rows.get(shown)
