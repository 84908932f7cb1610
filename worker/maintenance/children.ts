import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { type ResolvedRow, toFollowed } from '../../src/jobs/relatives.ts'

/** How often a worker asks whether it is time to write the progress of parents, in milliseconds. */
const reportIntervalMs = 250
/** The poll starts the next reports. */
const reportsPerPoll = 4

/** Writes how many children of each running parent have ended, for about a second. */
export async function reportChildren({ kysely }: Database, notifier: Notifier, stopping: AbortSignal): Promise<void> {
  for (let count = 0; count < reportsPerPoll && !stopping.aborted; count++) {
    const { rows } = await sql<{ id: string }>`select accepted.report_children() as id`.execute(kysely)
    notifier.notify(
      'status',
      rows.map(({ id }) => id),
    )
    await delay(reportIntervalMs, undefined, { signal: stopping }).catch(() => {})
  }
}

/** Finds jobs that wait for jobs that have ended, and parents without pending children. Other programs can cause both. */
export async function resolveMissed({ kysely }: Database, notifier: Notifier): Promise<void> {
  const { rows } = await sql<ResolvedRow>`select * from accepted.resolve_missed()`.execute(kysely)
  const { jobs, enqueued } = toFollowed(rows)
  notifier.notify('status', jobs)
  notifier.notify('work', enqueued)
}
