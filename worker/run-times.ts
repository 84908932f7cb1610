import { sql } from 'kysely'
import type { Database } from '../src/db/database.ts'

/** How long jobs run, for the estimates that clients are shown. */
export interface RunTimes {
  /** A job of the operation has succeeded, after so many seconds. */
  record(operation: string, seconds: number): void
  /** Writes what was recorded since. */
  write(): Promise<void>
}

/** What the runs since the last write weigh in the moving average. */
const weight = 0.3

interface Recent {
  count: number
  seconds: number
}

/** Gathers run times, so that however many jobs end, one statement a second is all they cost. */
export function createRunTimes({ kysely }: Database): RunTimes {
  let recent = new Map<string, Recent>()
  return {
    record(operation, seconds) {
      const { count, seconds: sum } = recent.get(operation) ?? { count: 0, seconds: 0 }
      recent.set(operation, { count: count + 1, seconds: sum + seconds })
    },
    async write() {
      if (recent.size === 0) return
      // Sorted, so that two workers lock the rows in the same order.
      const rows = [...recent].sort(([a], [b]) => (a < b ? -1 : 1))
      recent = new Map()
      await sql`
        insert into accepted.run_time (operation, seconds)
        select operation, seconds from unnest(
          ${rows.map(([operation]) => operation)}::text[],
          ${rows.map(([, { count, seconds }]) => seconds / count)}::double precision[]
        ) as new (operation, seconds)
        on conflict on constraint run_time_pkey do update set
          seconds = run_time.seconds + (excluded.seconds - run_time.seconds) * ${weight},
          updated_at = now()`.execute(kysely)
    },
  }
}
