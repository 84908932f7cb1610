import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import type { ReportError } from '../../src/db/error-reporter.ts'
import { rowLock } from '../../src/db/locks.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { idIn } from '../../src/jobs/job.ts'

/** Writes the progress reports of running jobs. */
export interface ProgressWriter {
  /**
   * Returns the function with which an attempt reports progress. The function throws a RangeError when `percent` is not
   * between 0 and 100.
   *
   * @param job.percent the progress of earlier attempts
   */
  begin(job: { id: string; attempt: number; percent: number | null }): (percent: number, message?: string) => void
  /**
   * Removes and returns the latest report of a job that ends, if it may not be written yet. The transaction that
   * finishes the attempt then writes it.
   */
  take(id: string): ProgressReport | undefined
  close(): Promise<void>
}

/** The latest report of an attempt. */
export interface ProgressReport {
  /** The id of the job. */
  id: string
  attempt: number
  percent: number
  /** See the column `progress_base`. */
  base: number | null
  message: string | undefined
}

const writeIntervalMs = 250

/** In characters. Longer messages are cut. Error messages have the same limit. */
const maxProgressMessageLength = 500

/**
 * Creates the function that computes the percent at which an attempt has started. After an earlier attempt, the attempt
 * may start again at 0, or from a checkpoint. The line through its first and its latest report shows which, however late
 * the first report is.
 *
 * @param earlier the progress of earlier attempts
 * @param startedAt when the attempt started, in milliseconds
 */
function createBase(earlier: number | null, startedAt: number): (percent: number, at: number) => number | null {
  if (!earlier) return () => null
  let first: { percent: number; at: number } | undefined
  return (percent, at) => {
    if (!first || percent < first.percent) first = { percent, at }
    const made = percent - first.percent
    // The attempt has made too little progress to tell its speed.
    if (made < 1 || at <= first.at) return percent
    return percent - (made * (at - startedAt)) / (at - first.at)
  }
}

/**
 * Builds the statement that writes reports. It skips locked jobs, unless this transaction has locked them. A locked job
 * is probably about to end, and the reports of other jobs must not wait for the lock.
 */
export function progressUpdate(reports: readonly ProgressReport[]): RawBuilder<unknown> {
  const sorted = reports.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const ids = sorted.map(({ id }) => id)
  return sql`
    update accepted.job set
      percent = greatest(job.percent, report.percent), message = coalesce(report.message, job.message),
      progress_at = case when report.percent >= coalesce(job.percent, 0) then now() else progress_at end,
      progress_base = case when report.percent >= coalesce(job.percent, 0) then report.base else progress_base end,
      sequence = sequence + 1, updated_at = statement_timestamp()
    from unnest(
      ${ids}::uuid[],
      ${sorted.map(({ percent }) => percent)}::smallint[],
      ${sorted.map(({ base }) => base)}::real[],
      ${sorted.map(({ message }) => message ?? null)}::text[],
      ${sorted.map(({ attempt }) => attempt)}::integer[]
    ) as report (id, percent, base, message, attempt)
    where ${idIn(ids)} and job.id = report.id and job.attempt = report.attempt and job.id in (
      select id from accepted.job
      where ${idIn(ids)} and status = 'running'
      order by id ${rowLock.skip}
    )`
}

/**
 * Creates a writer that gathers reports for 250 ms. The writer then writes the latest report of each job, in one
 * statement for all jobs.
 */
export function createProgressWriter(database: Database, notifier: Notifier, report: ReportError): ProgressWriter {
  let reports = new Map<string, ProgressReport>()
  /** The reports that a statement writes now. It skips the row of a job that ends at the same time. */
  let unconfirmed: ReadonlyMap<string, ProgressReport> = new Map()
  let timer: NodeJS.Timeout | undefined
  let writing = Promise.resolve()

  const write = async () => {
    timer = undefined
    const written = [...reports.values()]
    unconfirmed = reports
    reports = new Map()
    if (written.length === 0) return
    const ids = written.map(({ id }) => id)
    try {
      await runWithGenericPlan(database.kysely, progressUpdate(written))
      notifier.notify('status', ids)
    } catch (error) {
      report(error, 'Progress could not be written; the reports are dropped', { jobs: ids.length })
    } finally {
      unconfirmed = new Map()
    }
  }

  return {
    begin({ id, attempt, percent: earlier }) {
      const baseOf = createBase(earlier, performance.now())
      return (percent, message) => {
        if (!(percent >= 0 && percent <= 100)) throw new RangeError(`progress: ${percent} is not between 0 and 100`)
        // Postgres rejects a text that contains NUL. One such text would make the reports of all jobs fail.
        const text =
          message?.replaceAll('\0', '').slice(0, maxProgressMessageLength).toWellFormed() ?? reports.get(id)?.message
        const base = baseOf(percent, performance.now())
        reports.set(id, { id, attempt, percent: Math.floor(percent), base, message: text })
        timer ??= setTimeout(() => {
          writing = writing.then(write)
        }, writeIntervalMs)
      }
    },
    take(id) {
      const report = reports.get(id) ?? unconfirmed.get(id)
      reports.delete(id)
      return report
    },
    async close() {
      clearTimeout(timer)
      await writing
    },
  }
}
