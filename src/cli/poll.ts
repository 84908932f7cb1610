import { setTimeout as delay } from 'node:timers/promises'
import { withTransactionRetry } from '../db/transaction-retry.ts'
import { dutyCyclePause } from '../primitives/periodic.ts'

/** How often a failed read is repeated, with pauses of up to a second: the database may restart. */
const maxRetries = { outage: 120, 'lost-connection': 120 }
/** A slow read is repeated less often: many people may watch a busy database. */
const maxShare = 0.2

/** Reads repeatedly, and yields what was read. Ends the process when the reader of its output has gone, as `head` does. */
export async function* poll<Result>(read: () => Promise<Result>, intervalMs: number): AsyncGenerator<Result> {
  const exit = () => process.exit()
  process.stdout.on('error', exit)
  try {
    for (;;) {
      const startedAt = performance.now()
      const result = await withTransactionRetry(read, { maxRetries })
      const pauseMs = Math.max(intervalMs, dutyCyclePause(performance.now() - startedAt, maxShare))
      yield result
      await delay(pauseMs)
    }
  } finally {
    process.stdout.off('error', exit)
  }
}
