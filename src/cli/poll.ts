import { setTimeout as delay } from 'node:timers/promises'
import { withTransactionRetry } from '../db/transaction-retry.ts'

/** How often a failed read is repeated, with pauses of up to a second: the database may restart. */
const maxRetries = { outage: 120, 'lost-connection': 120 }

/** Reads repeatedly, and yields what was read. Ends the process when the reader of its output has gone, as `head` does. */
export async function* poll<Result>(read: () => Promise<Result>, intervalMs: number): AsyncGenerator<Result> {
  const exit = () => process.exit()
  process.stdout.on('error', exit)
  try {
    for (;;) {
      yield await withTransactionRetry(read, { maxRetries })
      await delay(intervalMs)
    }
  } finally {
    process.stdout.off('error', exit)
  }
}
