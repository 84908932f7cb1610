import { toCloudEvent } from '../../jobs/cloud-event.ts'
import type { Estimates } from '../../jobs/estimate.ts'
import type { Job } from '../../jobs/job.ts'
import { toMonitor, toProgress } from '../../jobs/monitor.ts'
import type { ShownResults } from '../../jobs/shown-results.ts'
import type { Site } from '../../jobs/site.ts'
import type { SentVersion } from './sent-version.ts'

export interface SseOptions {
  /** The URLs that the links start with. */
  site: Site
  /** The principal of the client. */
  viewer: string
  /** The `id` field of the event. A client that reconnects sends it as Last-Event-ID. */
  id: string
  /** Whether a `progress` event contains the job id. A stream of several jobs needs this id. Default: false. */
  includeJobId?: boolean
  /** The monitor document of the job in JSON, if the job itself is cut. */
  wholeMonitor?: string | undefined
}

/** Converts job changes to the events that clients receive. */
export interface EventEncoder {
  /**
   * Returns a server-sent event. The event type is `progress` if only the progress has changed since `lastSent`.
   * Otherwise it is `status`.
   */
  encodeSse(job: Job, lastSent: SentVersion | undefined, options: SseOptions): string
  /** Returns a CloudEvent in JSON with the monitor document of the job. */
  encodeCloudEvent(job: Job, site: Site, viewer: string): string
}

/** Creates the encoder of a process. It serialises each change only once, even for many clients. */
export function createEventEncoder(estimates: Estimates, results: ShownResults): EventEncoder {
  const cache = new WeakMap<Job, Map<string, string>>()
  const serialiseOnce = (job: Job, key: string, create: () => unknown) => {
    const byKey = cache.get(job) ?? new Map<string, string>()
    cache.set(job, byKey)
    const text = byKey.get(key) ?? JSON.stringify(create())
    byKey.set(key, text)
    return text
  }
  const keyOf = (job: Job, site: Site, viewer: string) => `${viewer === job.principal} ${site.jobs}`
  const monitor = (job: Job, site: Site, viewer: string) =>
    serialiseOnce(job, keyOf(job, site, viewer), () =>
      toMonitor(job, site, estimates.of(job), results.show(job, viewer, job.result)),
    )
  const progress = (job: Job, includeJobId: boolean) =>
    serialiseOnce(job, `progress ${includeJobId}`, () => ({
      ...(includeJobId && { id: job.id }),
      ...toProgress(job, estimates.of(job)),
    }))

  return {
    encodeCloudEvent: (job, site, viewer) =>
      serialiseOnce(job, `cloud event ${keyOf(job, site, viewer)}`, () =>
        toCloudEvent(job, site, estimates.of(job), results.show(job, viewer, job.result)),
      ),
    encodeSse(job, lastSent, { site, viewer, id, includeJobId = false, wholeMonitor }) {
      const isProgress = lastSent !== undefined && differsInProgressOnly(lastSent, job)
      const data = isProgress ? progress(job, includeJobId) : (wholeMonitor ?? monitor(job, site, viewer))
      return `event: ${isProgress ? 'progress' : 'status'}\nid: ${id}\ndata: ${data}\n\n`
    },
  }
}

const differsInProgressOnly = (lastSent: SentVersion, job: Job): boolean =>
  job.status === 'running' &&
  // A progress event does not contain the numbers of children.
  job.children === null &&
  lastSent.status === job.status &&
  lastSent.attempt === job.attempt &&
  lastSent.coalesced === job.coalesced &&
  lastSent.cancel_requested === job.cancel_requested
