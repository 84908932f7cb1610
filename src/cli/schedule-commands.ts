import { sql } from 'kysely'
import { ConfigError } from '../config.ts'
import type { ScheduleOverviewRow } from '../db/views.ts'
import { callFunction } from './call-function.ts'
import { type Counted, withCounts } from './counts.ts'
import { type ListOptions, printList } from './list.ts'
import type { OutputOptions } from './output-options.ts'
import { parseLimit, parseTime } from './parse-options.ts'
import { statusStyles } from './status-style.ts'
import { withDatabase } from './with-database.ts'

/** Runs `accepted schedules list`: lists the schedules with their next and their last occurrence, and their pause. */
export const listSchedulesCommand = (options: ListOptions): Promise<void> =>
  printList<Counted<ScheduleOverviewRow, 'requests'>>(
    {
      columns: [
        { heading: 'NAME', cell: ({ name }) => name },
        { heading: 'OPERATION', cell: ({ operation }) => operation, whenNarrow: 'omit' },
        { heading: 'EXPRESSION', cell: ({ expression }) => expression, whenNarrow: 'cut' },
        { heading: 'TIME ZONE', cell: ({ timezone }) => timezone, whenNarrow: 'omit' },
        { heading: 'NEXT', cell: (row) => row.next_at },
        { heading: 'LAST', cell: (row) => row.last_at },
        {
          heading: 'LAST STATUS',
          cell: (row) => row.last_status,
          style: (row) => (row.last_status ? statusStyles[row.last_status] : undefined),
        },
        { heading: 'REQUESTS', cell: ({ requests }) => requests, whenNarrow: 'omit' },
        { heading: 'PAUSED', cell: (row) => row.paused_at, style: () => 'yellow' },
        { heading: 'REASON', cell: (row) => row.paused_reason, whenNarrow: 'cut' },
      ],
      read: async (db) => {
        const statement = sql<ScheduleOverviewRow>`select * from accepted.schedule_overview order by name`
        return withCounts((await statement.execute(db)).rows, ['requests'])
      },
      whenEmpty: 'No schedules are defined. A worker writes those of the app when it starts.',
    },
    options,
  )

/** Runs `accepted schedules run`: requests a job of a schedule now. */
export async function runScheduleCommand(name: string, { json }: OutputOptions): Promise<void> {
  const row = await withDatabase((db) =>
    callFunction(db, sql<{ id: string }>`select accepted.run_schedule(${name}) as id`),
  )
  const id = row?.id as string
  if (json) return console.log(JSON.stringify({ name, id }))
  console.log(id)
  console.error(`A worker creates this job within a second. To follow it: accepted jobs watch ${id}`)
}

interface BackfillOptions extends OutputOptions {
  since?: string
  until?: string
  limit?: string
}

/** Runs `accepted schedules backfill`: requests the jobs of the occurrences that never became jobs. */
export async function backfillScheduleCommand(name: string, options: BackfillOptions): Promise<void> {
  const since = parseTime('--since', options.since)
  if (!since) throw new ConfigError('--since is missing. For the occurrences of the last week: --since 7d')
  const until = parseTime('--until', options.until) ?? sql`now()`
  const limit = parseLimit(options.limit) ?? 1_000
  const statement = sql<{ id: string }>`
    select accepted.backfill_schedule(${name}, ${since}, ${until}, ${limit}::integer) as id`
  const row = await withDatabase((db) => callFunction(db, statement))
  const id = row?.id as string
  if (options.json) return console.log(JSON.stringify({ name, id }))
  console.log(id)
  console.error(`A worker creates this batch within a second. To follow it: accepted batches watch ${id}`)
}

interface PauseOptions extends OutputOptions {
  reason?: string
}

/** Runs `accepted schedules pause`: occurrences pass without a job until the schedule is resumed. */
export async function pauseScheduleCommand(name: string, { json, reason }: PauseOptions): Promise<void> {
  await withDatabase((db) => callFunction(db, sql`select accepted.pause_schedule(${name}, ${reason ?? null})`))
  if (json) return console.log(JSON.stringify({ name, paused: true, reason }))
  console.log(`Paused ${name}. To resume it: accepted schedules resume ${name}`)
}

/** Runs `accepted schedules resume`. */
export async function resumeScheduleCommand(name: string, { json }: OutputOptions): Promise<void> {
  await withDatabase((db) => callFunction(db, sql`select accepted.resume_schedule(${name})`))
  console.log(json ? JSON.stringify({ name, paused: false }) : `Resumed ${name}.`)
}
