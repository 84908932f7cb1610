import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { type ResolvedRow, toFollowed } from '../../src/jobs/relatives.ts'
import { dutyCyclePause } from '../../src/primitives/periodic.ts'

/** How often the progress of parents is written, in milliseconds. */
const reportIntervalMs = 250
/** The reports take at most this share of the time, because each of them reads all children. */
const maxReportShare = 0.05
/** The poll starts the next reports. */
const reportsPerPoll = 4

/** Writes how many children of each running parent have ended, for about a second. */
export async function reportChildren({ kysely }: Database, notifier: Notifier, stopping: AbortSignal): Promise<void> {
  for (let count = 0; count < reportsPerPoll && !stopping.aborted; count++) {
    const startedAt = performance.now()
    const { rows } = await sql<{ id: string }>`select accepted.report_children() as id`.execute(kysely)
    notifier.notify(
      'status',
      rows.map(({ id }) => id),
    )
    const pauseMs = Math.max(reportIntervalMs, dutyCyclePause(performance.now() - startedAt, maxReportShare))
    await delay(pauseMs, undefined, { signal: stopping }).catch(() => {})
  }
}

/** Finds jobs that wait for jobs that have ended, and parents without pending children. Other programs can cause both. */
export async function resolveMissed({ kysely }: Database, notifier: Notifier): Promise<void> {
  const { rows } = await sql<ResolvedRow>`select * from accepted.resolve_missed()`.execute(kysely)
  const { jobs, enqueued } = toFollowed(rows)
  notifier.notify('status', jobs)
  notifier.notify('work', enqueued)
}
