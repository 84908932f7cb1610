export { type Authenticate, type Config, defineConfig, type Identity } from './config.ts'
export type { DatabaseOptions } from './db/database.ts'
export { accepted } from './http/plugin.ts'
export type { Accepted, AcceptedOptions } from './http/service.ts'
export type { EnqueueOptions } from './jobs/enqueue.ts'
export type { Job } from './jobs/job.ts'
export {
  type Acceptance,
  defineOperation,
  type Entry,
  type Operation,
  type PayloadFor,
  Refusal,
  type ResultFor,
  refuse,
} from './operation.ts'
export { defineSchedule, type MissedPolicy, type Schedule } from './schedule.ts'
