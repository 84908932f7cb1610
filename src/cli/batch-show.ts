import { type BatchStatus, readBatchStatus, readFailedChildren } from './batch-status.ts'
import type { OutputOptions } from './output-options.ts'
import { printLine, printTable } from './print-table.ts'
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
  printTable(
    ['FAILED JOB', 'OPERATION', 'ERROR'],
    failures.map(({ id, operation, error }) => [id, operation, `${error.code}: ${error.message}`]),
  )
  if (batch.children.failed > failures.length) {
    console.log(`… and ${batch.children.failed - failures.length} more; \`--json\` prints all.`)
  }
}

function printBatch({ id, status, percent, children, created_at, ended_at, error }: BatchStatus): void {
  printTable(
    ['ID', 'STATUS', 'PERCENT', 'TOTAL', 'SUCCEEDED', 'FAILED', 'CANCELED', 'CREATED', 'ENDED'],
    [
      [
        ...[id, status, percent, children.total, children.succeeded, children.failed, children.canceled],
        ...[created_at.toISOString(), ended_at?.toISOString()],
      ],
    ],
  )
  if (!error) return
  console.log()
  printLine(`${error.code}: ${error.message}`)
}
