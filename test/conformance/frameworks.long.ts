/** Runs conformance tests against the handler of `accepted/http`, in real frameworks instead of `accepted api`. */
import { join } from 'node:path'
import t from 'tap'

const names = [
  ...['submit', 'result', 'events', 'idempotency-key', 'cancel-retry-list', 'batches', 'monitor', 'long-poll'],
  ...['prefer', 'negotiation'],
]

for (const framework of ['hono', 'express']) {
  for (const name of names) {
    const file = join(import.meta.dirname, `${name}.test.ts`)
    const env = { ...process.env, ACCEPTED_TEST_FRAMEWORK: framework }
    t.spawn(process.execPath, [...process.execArgv, file], { env, timeout: 600_000 }, `${name} in ${framework}`)
  }
}
