import { sql } from 'kysely'
import type { BacklogRow } from '../db/views.ts'
import { callFunction } from './call-function.ts'
import { type Counted, withCounts } from './counts.ts'
import { type ListOptions, printList } from './list.ts'
import type { OutputOptions } from './output-options.ts'
import { formatDuration } from './relative-time.ts'
import { withDatabase } from './with-database.ts'

type Row = BacklogRow & {
  /** For how long the oldest ready job has been due. */
  oldest_seconds: number | null
}

const counts = ['ready', 'deferred', 'running', 'workers', 'quarantined', 'held_keys'] as const

/** Runs `accepted operations list`: lists the operations with their backlog, their workers and their pause. */
export const listOperationsCommand = (options: ListOptions): Promise<void> =>
  printList<Counted<Row, (typeof counts)[number]>>(
    {
      columns: [
        { heading: 'NAME', cell: ({ operation }) => operation },
        { heading: 'READY', cell: ({ ready }) => ready },
        { heading: 'DEFERRED', cell: ({ deferred }) => deferred },
        { heading: 'RUNNING', cell: ({ running }) => running },
        {
          heading: 'OLDEST',
          cell: (row) => (row.oldest_seconds === null ? '' : formatDuration(row.oldest_seconds)),
          isVolatile: true,
        },
        {
          heading: 'WORKERS',
          cell: ({ workers }) => workers,
          style: (row) => (row.workers === 0 && row.ready > 0 ? 'red' : undefined),
        },
        { heading: 'PAUSED', cell: (row) => row.paused_at, style: () => 'yellow' },
        { heading: 'REASON', cell: (row) => row.paused_reason, whenNarrow: 'cut' },
      ],
      read: async (db) => {
        const statement = sql<Row>`
          select *, extract(epoch from oldest)::integer as oldest_seconds from accepted.backlog order by operation`
        return withCounts((await statement.execute(db)).rows, counts)
      },
      whenEmpty: 'No operations are defined yet: run `accepted migrate` with the configuration of the app.',
    },
    options,
  )

interface PauseOptions extends OutputOptions {
  reason?: string
}

/** Runs `accepted operations pause`: workers start no jobs of the operation until it is resumed. */
export async function pauseOperationCommand(name: string, options: PauseOptions): Promise<void> {
  await withDatabase((db) => callFunction(db, sql`select accepted.pause(${name}, ${options.reason ?? null})`))
  if (options.json) return console.log(JSON.stringify({ name, paused: true, reason: options.reason }))
  console.log(`Paused ${name}. To resume it: accepted operations resume ${name}`)
}

/** Runs `accepted operations resume`. */
export async function resumeOperationCommand(name: string, options: OutputOptions): Promise<void> {
  await withDatabase((db) => callFunction(db, sql`select accepted.resume(${name})`))
  console.log(options.json ? JSON.stringify({ name, paused: false }) : `Resumed ${name}.`)
}
