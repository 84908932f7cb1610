export { JobFailed, RetryAfter } from './errors.ts'
export { failUncaught } from './execution/handler-scope.ts'
export {
  type Dependencies,
  defineHandlers,
  type Handler,
  type Handlers,
  type HandlersFor,
  type Perform,
  type PerformingJob,
  type RunningJob,
  type SettlingJob,
} from './handlers.ts'
export { type Health, type HealthServer, type Monitored, serveHealth } from './health.ts'
export { startWatchdog, type Watchdog } from './maintenance/watchdog.ts'
export { createWorker, type Worker, type WorkerOptions } from './worker.ts'
