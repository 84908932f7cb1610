import type { BatchStatus } from './batch-status.ts'
import { findJobs, type JobFilter, type JobRow } from './job-list.ts'
import { type ListOptions, printList } from './list.ts'
import { statusStyles } from './status-style.ts'
import type { Column } from './table.ts'

/** The columns for batches. */
export const batchColumns: readonly Column<
  Pick<BatchStatus | JobRow, 'id' | 'status' | 'percent' | 'children' | 'created_at' | 'ended_at'>
>[] = [
  { heading: 'ID', cell: ({ id }) => id },
  { heading: 'STATUS', cell: ({ status }) => status, style: ({ status }) => statusStyles[status] },
  { heading: 'PERCENT', cell: ({ percent }) => percent },
  { heading: 'TOTAL', cell: ({ children }) => children?.total },
  { heading: 'SUCCEEDED', cell: ({ children }) => children?.succeeded },
  { heading: 'FAILED', cell: ({ children }) => children?.failed },
  { heading: 'CANCELED', cell: ({ children }) => children?.canceled, whenNarrow: 'omit' },
  { heading: 'CREATED', cell: (batch) => batch.created_at, whenNarrow: 'omit' },
  { heading: 'ENDED', cell: (batch) => batch.ended_at, whenNarrow: 'omit' },
]

/** Runs `accepted batches list`: lists the batches of all principals, newest first. */
export const listBatchesCommand = (options: ListOptions & JobFilter): Promise<void> =>
  printList<JobRow>(
    {
      columns: batchColumns,
      ...findJobs({ ...options, operation: 'batch' }),
      whenEmpty: 'No batches found. Submit one with: accepted batches submit <file>',
      isPage: true,
    },
    options,
  )
