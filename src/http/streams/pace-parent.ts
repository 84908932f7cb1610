import type { Job } from '../../jobs/job.ts'
import { isFinal } from '../../jobs/status.ts'

/**
 * The minimum time between two changes of a job whose children end, in milliseconds. With the end of the job, which is
 * sent at once, at most 4 changes are sent in a second.
 */
const minIntervalMs = 350

export interface Pace {
  send(job: Job): void
  /** Drops the change that waits. */
  stop(): void
}

/** Passes on the changes of a job. If the job has children, leaves out changes that follow too soon on another. */
export function paceParent(send: (job: Job) => void): Pace {
  let sentAt = Number.NEGATIVE_INFINITY
  let newest: Job | undefined
  let timer: NodeJS.Timeout | undefined
  const stop = () => {
    clearTimeout(timer)
    timer = undefined
    newest = undefined
  }
  const pass = (job: Job) => {
    stop()
    sentAt = performance.now()
    send(job)
  }
  return {
    stop,
    send(job) {
      const waitMs = sentAt + minIntervalMs - performance.now()
      if (!job.children || isFinal(job.status) || waitMs <= 0) return pass(job)
      newest = job
      timer ??= setTimeout(() => newest && pass(newest), waitMs)
    },
  }
}
