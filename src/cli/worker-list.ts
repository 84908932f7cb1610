import { sql } from 'kysely'
import type { WorkerOverviewRow } from '../db/views.ts'
import { type Counted, withCounts } from './counts.ts'
import { type ListOptions, printList } from './list.ts'

type Row = Counted<WorkerOverviewRow, 'running'>

const statusOf = ({ status, silent }: Row) => (silent ? 'silent' : status)

/** Runs `accepted workers list`: lists the worker processes, and what each holds. */
export const listWorkersCommand = (options: ListOptions): Promise<void> =>
  printList<Row>(
    {
      columns: [
        { heading: 'ID', cell: ({ id }) => id },
        { heading: 'WORKER', cell: ({ worker }) => worker },
        {
          heading: 'STATUS',
          cell: statusOf,
          style: (row) => ({ ready: 'green', draining: 'yellow', silent: 'red' })[statusOf(row)] as 'green',
        },
        { heading: 'RUNNING', cell: ({ running }) => running },
        { heading: 'OLDEST CLAIM', cell: (row) => row.oldest_since, whenNarrow: 'omit-first' },
        { heading: 'STARTED', cell: (row) => row.started_at, whenNarrow: 'omit' },
        { heading: 'VERSION', cell: ({ version }) => version, whenNarrow: 'omit' },
        { heading: 'OPERATIONS', cell: ({ operations }) => operations.join(','), whenNarrow: 'cut' },
        { heading: 'JOBS', cell: (row) => row.job_ids?.join(','), whenNarrow: 'cut' },
      ],
      read: async (db) => {
        const statement = sql<WorkerOverviewRow>`select * from accepted.worker_overview order by silent, worker`
        return withCounts((await statement.execute(db)).rows, ['running'])
      },
      whenEmpty: 'No worker runs. Start one with: accepted worker',
    },
    options,
  )
