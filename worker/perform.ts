// The entry point for modules whose `perform` runs in a child. It is small, because every child loads it.
export { JobFailed, RetryAfter } from './errors.ts'
export type { Perform } from './handlers.ts'
export type { Dependency, PerformingJob } from './running-job.ts'
