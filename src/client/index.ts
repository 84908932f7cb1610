export {
  type Batch,
  type BatchResult,
  type ChildrenOptions,
  type Client,
  type ClientOptions,
  createClient,
  type Job,
  type JobReference,
  type SubmitOptions,
  type SucceededJob,
} from './client.ts'
export type { CallOptions } from './deadline.ts'
export { AcceptedError } from './error.ts'
