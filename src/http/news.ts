import { toCloudEvent } from '../jobs/cloud-event.ts'
import type { Estimates } from '../jobs/estimate.ts'
import type { Job } from '../jobs/job.ts'
import { toMonitor, toProgress } from '../jobs/monitor.ts'

export interface FrameOptions {
  /** Scheme and host of the links. */
  origin: string
  /** What the client sends as Last-Event-ID. */
  id: string
  /** Whether `progress` must say whose it is. */
  namesJob?: boolean
}

/** What decides how the next change of a job is told, once it has been told of: so little, for streams remember many. */
export type Told = Pick<Job, 'id' | 'sequence' | 'state' | 'attempt' | 'cancel_requested'>

/** How changes of jobs are told. */
export interface News {
  /** A server-sent event for a job, given what was last told of it. */
  frame(job: Job, last: Told | undefined, options: FrameOptions): string
  /** A CloudEvent in JSON with the monitor of a job. */
  cloudEvent(job: Job, origin: string): string
}

/** Makes the news of a process. A change is serialised once, however many are told of it. */
export function createNews(estimates: Estimates): News {
  const serialised = new WeakMap<Job, Map<string, string>>()
  const once = (job: Job, key: string, make: () => unknown) => {
    const ofJob = serialised.get(job) ?? new Map<string, string>()
    serialised.set(job, ofJob)
    const text = ofJob.get(key) ?? JSON.stringify(make())
    ofJob.set(key, text)
    return text
  }
  const monitor = (job: Job, origin: string) => once(job, origin, () => toMonitor(job, origin, estimates.of(job)))
  const progress = (job: Job, namesJob: boolean) =>
    once(job, `progress ${namesJob}`, () => ({
      ...(namesJob && { id: job.id }),
      ...toProgress(job, estimates.of(job)),
    }))

  return {
    cloudEvent: (job, origin) => once(job, `cloud event ${origin}`, () => toCloudEvent(job, origin, estimates.of(job))),
    frame(job, last, { origin, id, namesJob = false }) {
      const isProgress = last !== undefined && differsInProgressOnly(last, job)
      const data = isProgress ? progress(job, namesJob) : monitor(job, origin)
      return `event: ${isProgress ? 'progress' : 'status'}\nid: ${id}\ndata: ${data}\n\n`
    },
  }
}

const differsInProgressOnly = (last: Told, job: Job): boolean =>
  job.state === 'running' &&
  last.state === job.state &&
  last.attempt === job.attempt &&
  last.cancel_requested === job.cancel_requested
