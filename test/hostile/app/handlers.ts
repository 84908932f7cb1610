import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { defineHandlers, JobFailed } from 'accepted/worker'
import * as operations from './operations.ts'

const stepMs = 50

const contents = {
  random: (bytes: number) => ({ data: randomBytes(Math.ceil(bytes * 0.75)).toString('base64') }),
  repeated: (bytes: number) => ({ data: 'x'.repeat(bytes) }),
  nested: (bytes: number) => Array.from({ length: Math.ceil(bytes / 20) }, (_, number) => ({ n: [number, 'é'] })),
}

export default defineHandlers(operations, {
  'quick.run': { settle: async (_trx, jobs) => jobs.map(({ payload }) => ({ text: payload.text })) },
  'keyed.put': { settle: async () => {} },
  'bulk.make': { perform: async ({ payload }) => contents[payload.content](payload.bytes), concurrency: 4 },
  'failing.run': {
    perform: async ({ payload: { text, isDeclared } }) => {
      if (!isDeclared) throw new Error(text)
      throw new JobFailed('declared', text.slice(0, 1_000), { details: [{ text }] })
    },
  },
  'slow.run': {
    perform: async (job) => {
      for (let step = 1; step <= job.payload.steps; step++) {
        await delay(stepMs, undefined, { signal: job.signal })
        await job.progress(Math.floor((100 * step) / job.payload.steps), 'x'.repeat(200))
      }
    },
    concurrency: 10,
  },
})
