import type { Job } from '../jobs/job.ts'
import type { OnChange } from './subscriptions.ts'

/** A watch that buffers changes until a listener is set. */
export interface BufferedChanges {
  /** Sets the listener. The listener gets the jobs in `read`, then the buffered changes, then every later change. */
  deliverTo(onChange: OnChange, read: readonly Job[]): void
  stop(): void
}

/**
 * Starts a watch and buffers its changes. Read the jobs after this call, so that no change is missed. A change between
 * this call and the read may be delivered twice.
 */
export function bufferChanges(watch: (onChange: OnChange) => () => void): BufferedChanges {
  const buffered: Job[] = []
  let deliver: OnChange = (job) => void buffered.push(job)
  const stop = watch((job) => deliver(job))
  return {
    deliverTo(onChange, read) {
      deliver = onChange
      for (const job of [...read, ...buffered]) onChange(job)
    },
    stop,
  }
}
