import '../src/primitives/require-node.ts'

export type { BatchOutcome } from '../src/db/tables.ts'
export { type Health, type HealthServer, type Monitored, serveHealth } from '../src/health-server.ts'
export { defineHandlers } from './define-handlers.ts'
export { JobFailed, RetryAfter } from './errors.ts'
export { failUncaught } from './execution/handler-scope.ts'
export type {
  Dependencies,
  FollowUpOptions,
  Handler,
  Handlers,
  HandlersFor,
  Perform,
  PerformingJob,
  RunningJob,
  SettlingJob,
} from './handlers.ts'
export { startWatchdog, type Watchdog } from './maintenance/watchdog.ts'
export { createWorker, type Worker, type WorkerOptions } from './worker.ts'
