import { formatCounts, readBatchStatus } from './batch-status.ts'
import type { OutputOptions } from './output-options.ts'
import { watchUntilEnd } from './watch-job.ts'
import { withDatabase } from './with-database.ts'

/** Runs `accepted batches watch`: shows the progress of a batch until it ends. The exit code is 1 if it failed. */
export const watchBatchCommand = (id: string, options: OutputOptions): Promise<void> =>
  withDatabase((db) => watchUntilEnd(() => readBatchStatus(db, id), formatCounts, options))
