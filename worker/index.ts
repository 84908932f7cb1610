export { JobFailed, RetryAfter } from './failure.ts'
export {
  type Dependencies,
  defineHandlers,
  type Handler,
  type Handlers,
  type HandlersFor,
  type PerformingJob,
  type RunningJob,
  type SettlingJob,
} from './handlers.ts'
export { type Health, type HealthServer, type Monitored, serveHealth } from './health.ts'
export { createWorker, type Worker, type WorkerOptions } from './worker.ts'
