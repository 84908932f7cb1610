import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import type { ReportError } from '../../src/db/error-reporter.ts'
import { rowLock } from '../../src/db/locks.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { idIn } from '../../src/jobs/job.ts'

/** Writes the progress reports of running jobs. */
export interface ProgressWriter {
  /** @throws RangeError when `percent` is not between 0 and 100 */
  report(job: { id: string; attempt: number }, percent: number, message?: string): void
  /** Drops the report of a job that ends, if the report is not written yet. */
  forget(id: string): void
  close(): Promise<void>
}

const writeIntervalMs = 250

/** In characters. Longer messages are cut. Error messages have the same limit. */
const maxProgressMessageLength = 500

interface Report {
  attempt: number
  percent: number
  message: string | undefined
}

/**
 * Creates a writer that gathers reports for 250 ms. The writer then writes the latest report of each job, in one
 * statement for all jobs.
 */
export function createProgressWriter(database: Database, notifier: Notifier, report: ReportError): ProgressWriter {
  let reports = new Map<string, Report>()
  let timer: NodeJS.Timeout | undefined
  let writing = Promise.resolve()

  const write = async () => {
    timer = undefined
    const written = [...reports].sort(([a], [b]) => (a < b ? -1 : 1))
    reports = new Map()
    if (written.length === 0) return
    const ids = written.map(([id]) => id)
    // Skips locked jobs. A locked job is probably about to end, and the reports of other jobs must not wait for the
    // lock.
    const statement = sql`
      update accepted.job set
        percent = greatest(job.percent, report.percent), message = coalesce(report.message, job.message),
        progress_at = case when report.percent >= coalesce(job.percent, 0) then now() else progress_at end,
        sequence = sequence + 1, updated_at = statement_timestamp()
      from unnest(
        ${ids}::uuid[],
        ${written.map(([, { percent }]) => percent)}::smallint[],
        ${written.map(([, { message }]) => message ?? null)}::text[],
        ${written.map(([, { attempt }]) => attempt)}::integer[]
      ) as report (id, percent, message, attempt)
      where ${idIn(ids)} and job.id = report.id and job.attempt = report.attempt and job.id in (
        select id from accepted.job
        where ${idIn(ids)} and status = 'running'
        order by id ${rowLock.skip}
      )`
    try {
      await runWithGenericPlan(database.kysely, statement)
      notifier.notify('status', ids)
    } catch (error) {
      report(error, 'Progress could not be written; the reports are dropped', { jobs: ids.length })
    }
  }

  return {
    report({ id, attempt }, percent, message) {
      if (!(percent >= 0 && percent <= 100)) throw new RangeError(`progress: ${percent} is not between 0 and 100`)
      // Postgres rejects a text that contains NUL. One such text would make the reports of all jobs fail.
      const text =
        message?.replaceAll('\0', '').slice(0, maxProgressMessageLength).toWellFormed() ?? reports.get(id)?.message
      reports.set(id, { attempt, percent: Math.floor(percent), message: text })
      timer ??= setTimeout(() => {
        writing = writing.then(write)
      }, writeIntervalMs)
    },
    forget: (id) => void reports.delete(id),
    async close() {
      clearTimeout(timer)
      await writing
    },
  }
}
