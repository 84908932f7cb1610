import '../src/primitives/require-node.ts'

export type { Monitor as Job } from '../src/jobs/monitor-schema.ts'
export type { Duration } from './clock.ts'
export { SubmitRefused } from './errors.ts'
export type { Expected } from './expect-job.ts'
export type { SubmitOptions } from './submit.ts'
export { type AdvanceOptions, createTestKit, type RunOptions, type TestKit, type TestKitOptions } from './test-kit.ts'
