import { batchColumns } from './batch-list.ts'
import { type BatchStatus, type FailedChild, readBatchStatus, readFailedChildren } from './batch-status.ts'
import { currentTerminal } from './list.ts'
import type { OutputOptions } from './output-options.ts'
import { printLine } from './print-line.ts'
import { type Column, formatTable } from './table.ts'
import { withDatabase } from './with-database.ts'

/** Maximum number of failed jobs that are printed as text, and as JSON. */
const maxFailures = { text: 20, json: 10_000 }

/** Runs `accepted batches show`: prints how many jobs of a batch have ended, and which have failed. */
export async function showBatchCommand(id: string, options: OutputOptions): Promise<void> {
  const limit = options.json ? maxFailures.json : maxFailures.text
  const { batch, failures } = await withDatabase(async (db) => ({
    batch: await readBatchStatus(db, id),
    failures: await readFailedChildren(db, id, limit),
  }))
  if (options.json) return console.log(JSON.stringify({ ...batch, failures }))
  printBatch(batch)
  if (failures.length === 0) return
  console.log()
  console.log(formatTable(failureColumns, failures, currentTerminal()).join('\n'))
  if (batch.children.failed > failures.length) {
    console.log(`… and ${batch.children.failed - failures.length} more; \`--json\` prints all.`)
  }
}

const failureColumns: readonly Column<FailedChild>[] = [
  { heading: 'ID', cell: ({ id }) => id },
  { heading: 'OPERATION', cell: ({ operation }) => operation, whenNarrow: 'cut' },
  { heading: 'ERROR', cell: ({ error }) => `${error.code}: ${error.message}`, whenNarrow: 'cut' },
]

function printBatch(batch: BatchStatus): void {
  console.log(formatTable(batchColumns, [batch], currentTerminal()).join('\n'))
  if (!batch.error) return
  console.log()
  printLine(`${batch.error.code}: ${batch.error.message}`)
}
