export { type Config, defineConfig } from './config.ts'
export type { DatabaseOptions } from './db/database.ts'
export { type Accepted, type AcceptedOptions, accepted, type EnqueueOptions } from './http/plugin.ts'
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
