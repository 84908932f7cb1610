// What a module that performs in a child imports: the rest of the worker would be loaded in every child.
export { JobFailed, RetryAfter } from './failure.ts'
export type { Perform, PerformingJob } from './handlers.ts'
