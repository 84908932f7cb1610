import '../src/primitives/require-node.ts'

export type { BatchOutcome, ChildCounts } from '../src/db/tables.ts'
export { type Health, type HealthServer, type Monitored, serveHealth } from '../src/health-server.ts'
export { defineHandlers } from './define-handlers.ts'
export { JobFailed, RetryAfter } from './errors.ts'
export { failUncaught } from './execution/handler-scope.ts'
export type { Dependencies, Handler, Handlers, HandlersFor, Perform } from './handlers.ts'
export { startWatchdog, type Watchdog } from './maintenance/watchdog.ts'
export type {
  Dependency,
  FollowUpBatch,
  FollowUpOptions,
  PerformingJob,
  RunningJob,
  SettlingJob,
} from './running-job.ts'
export { createWorker, type Worker, type WorkerOptions } from './worker.ts'
