import { toCloudEvent } from '../../jobs/cloud-event.ts'
import type { Estimates } from '../../jobs/estimate.ts'
import type { Job } from '../../jobs/job.ts'
import { toMonitor, toProgress } from '../../jobs/monitor.ts'
import type { SentVersion } from './sent-version.ts'

export interface SseOptions {
  /** Scheme and host of the links. */
  origin: string
  /** The event's `id` field, which the client sends back as Last-Event-ID. */
  id: string
  /** Whether a `progress` event carries the job id, for streams of several jobs. Default: false. */
  includeJobId?: boolean
}

/** Turns job changes into the events that clients receive. */
export interface EventEncoder {
  /** A server-sent event: `progress` if only the progress has changed since `lastSent`, else `status`. */
  encodeSse(job: Job, lastSent: SentVersion | undefined, options: SseOptions): string
  /** A CloudEvent in JSON with the monitor of the job. */
  encodeCloudEvent(job: Job, origin: string): string
}

/** Creates the encoder of a process. It serialises each change once, for any number of receivers. */
export function createEventEncoder(estimates: Estimates): EventEncoder {
  const cache = new WeakMap<Job, Map<string, string>>()
  const serialiseOnce = (job: Job, key: string, create: () => unknown) => {
    const byKey = cache.get(job) ?? new Map<string, string>()
    cache.set(job, byKey)
    const text = byKey.get(key) ?? JSON.stringify(create())
    byKey.set(key, text)
    return text
  }
  const monitor = (job: Job, origin: string) =>
    serialiseOnce(job, origin, () => toMonitor(job, origin, estimates.of(job)))
  const progress = (job: Job, includeJobId: boolean) =>
    serialiseOnce(job, `progress ${includeJobId}`, () => ({
      ...(includeJobId && { id: job.id }),
      ...toProgress(job, estimates.of(job)),
    }))

  return {
    encodeCloudEvent: (job, origin) =>
      serialiseOnce(job, `cloud event ${origin}`, () => toCloudEvent(job, origin, estimates.of(job))),
    encodeSse(job, lastSent, { origin, id, includeJobId = false }) {
      const isProgress = lastSent !== undefined && differsInProgressOnly(lastSent, job)
      const data = isProgress ? progress(job, includeJobId) : monitor(job, origin)
      return `event: ${isProgress ? 'progress' : 'status'}\nid: ${id}\ndata: ${data}\n\n`
    },
  }
}

const differsInProgressOnly = (lastSent: SentVersion, job: Job): boolean =>
  job.status === 'running' &&
  lastSent.status === job.status &&
  lastSent.attempt === job.attempt &&
  lastSent.cancel_requested === job.cancel_requested
