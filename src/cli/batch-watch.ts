import { setTimeout as delay } from 'node:timers/promises'
import { withTransactionRetry } from '../db/transaction-retry.ts'
import { isFinal } from '../jobs/status.ts'
import { printable } from '../primitives/printable.ts'
import { type BatchStatus, formatCounts, readBatchStatus } from './batch-status.ts'
import type { OutputOptions } from './output-options.ts'
import { printLine } from './print-table.ts'
import { withDatabase } from './with-database.ts'

const pollIntervalMs = 500
/** How often a failed read is repeated, with pauses of up to a second: the database may restart. */
const maxRetries = { outage: 120, 'lost-connection': 120 }

/** Runs `accepted batches watch`: shows the progress of a batch until it ends. The exit code is 1 if it failed. */
export async function watchBatchCommand(id: string, options: OutputOptions): Promise<void> {
  const show = options.json ? showJson : process.stdout.isTTY ? showBar : showLine
  await withDatabase(async (db) => {
    let shown = ''
    for (;;) {
      const batch = await withTransactionRetry(() => readBatchStatus(db, id), { maxRetries })
      const state = `${batch.status} ${formatCounts(batch)}`
      if (state !== shown) show(batch)
      shown = state
      if (isFinal(batch.status)) {
        process.exitCode = batch.status === 'succeeded' ? 0 : 1
        return
      }
      await delay(pollIntervalMs)
    }
  })
}

const showJson = (batch: BatchStatus) => console.log(JSON.stringify(batch))

const showLine = (batch: BatchStatus) => printLine(formatState(batch))

function formatState(batch: BatchStatus): string {
  const error = batch.error ? `: ${batch.error.code}: ${batch.error.message}` : ''
  return `${batch.status}  ${batch.percent ?? 0} %  ${formatCounts(batch)}${error}`
}

const maxBarWidth = 40

/** Replaces the last line of the terminal. */
function showBar(batch: BatchStatus): void {
  const state = printable(formatState(batch))
  const width = Math.min(maxBarWidth, (process.stdout.columns || 80) - state.length - 4)
  const filled = Math.max(0, Math.floor((width * (batch.percent ?? 0)) / 100))
  const bar = width > 0 ? `[${'#'.repeat(filled)}${'-'.repeat(width - filled)}] ` : ''
  process.stdout.write(`\r\u001b[K${bar}${state}${isFinal(batch.status) ? '\n' : ''}`)
}
