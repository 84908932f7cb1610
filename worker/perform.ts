// The entry point for modules whose `perform` runs in a child. It is small, because every child loads it.
export { JobFailed, RetryAfter } from './errors.ts'
export type { Perform, PerformingJob } from './handlers.ts'
