import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'

/** Records how long jobs run, for the estimates that clients see. */
export interface RunTimes {
  /** Records the run time of a job that has succeeded, in seconds. */
  record(operation: string, seconds: number): void
  /** Writes the run times that were recorded since the last write, in one statement for all operations. */
  write(): Promise<void>
}

/** In the moving average, the weight of all runs since the last write, from 0 to 1. */
const newRunsWeight = 0.3

interface RecentRuns {
  count: number
  seconds: number
}

export function createRunTimes({ kysely }: Database): RunTimes {
  let recent = new Map<string, RecentRuns>()
  return {
    record(operation, seconds) {
      const { count, seconds: sum } = recent.get(operation) ?? { count: 0, seconds: 0 }
      recent.set(operation, { count: count + 1, seconds: sum + seconds })
    },
    async write() {
      if (recent.size === 0) return
      // Sorted, so that all workers lock the rows in the same order.
      const rows = [...recent].sort(([a], [b]) => (a < b ? -1 : 1))
      recent = new Map()
      await sql`
        insert into accepted.run_time (operation, seconds)
        select operation, seconds from unnest(
          ${rows.map(([operation]) => operation)}::text[],
          ${rows.map(([, { count, seconds }]) => seconds / count)}::double precision[]
        ) as new (operation, seconds)
        on conflict on constraint run_time_pkey do update set
          seconds = run_time.seconds + (excluded.seconds - run_time.seconds) * ${newRunsWeight},
          updated_at = now()`.execute(kysely)
    },
  }
}
