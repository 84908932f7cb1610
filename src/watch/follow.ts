import type { Job } from '../jobs/job.ts'
import type { OnChange } from './watcher.ts'

/** A watch that keeps what it hears until somebody listens. */
export interface Following {
  /** Tells what was found when it was read, what was heard meanwhile, and from now on what happens. */
  begin(tell: OnChange, found: readonly Job[]): void
  stop(): void
}

/** Begins to watch. Read then, and nothing is missed between the two: a change may be told twice, never not at all. */
export function follow(watch: (onChange: OnChange) => () => void): Following {
  const early: Job[] = []
  let tell: OnChange = (job) => void early.push(job)
  const stop = watch((job) => tell(job))
  return {
    begin(listener, found) {
      tell = listener
      for (const job of [...found, ...early]) listener(job)
    },
    stop,
  }
}
