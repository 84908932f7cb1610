import { sql } from 'kysely'
import type { Logger } from 'pino'
import { type Database, runPlannedOnce } from '../src/db/database.ts'
import type { Notifier } from '../src/db/notifier.ts'
import { among } from '../src/jobs/job.ts'

/** Reports of running jobs, written together. */
export interface Progress {
  report(job: { id: string; attempt: number }, percent: number, message?: string): void
  /** The job ends: what is unwritten is no longer of interest. */
  forget(id: string): void
  close(): Promise<void>
}

/** How long reports gather, in milliseconds. */
const gatherFor = 250

/** What is longer is cut off, as errors are: it is for people. In characters. */
const longestMessage = 500

interface Report {
  attempt: number
  percent: number
  message: string | undefined
}

/** Writes the latest report of each job, outside any transaction, in one statement for all jobs. */
export function createProgress(database: Database, hints: Notifier, log: Logger): Progress {
  let reports = new Map<string, Report>()
  let timer: NodeJS.Timeout | undefined
  let writing = Promise.resolve()

  const write = async () => {
    timer = undefined
    const written = [...reports].sort(([a], [b]) => (a < b ? -1 : 1))
    reports = new Map()
    if (written.length === 0) return
    const ids = written.map(([id]) => id)
    // One that somebody has locked is just ending; the others need not wait for that.
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
      where ${among(ids)} and job.id = report.id and job.attempt = report.attempt and job.id in (
        select id from accepted.job
        where ${among(ids)} and state = 'running'
        order by id for update skip locked
      )`
    try {
      await runPlannedOnce(database, statement)
      hints.notify('status', ids)
    } catch (error) {
      log.warn({ err: error }, 'Progress could not be written')
    }
  }

  return {
    report({ id, attempt }, percent, message) {
      if (!(percent >= 0 && percent <= 100)) throw new RangeError(`progress: ${percent} is not between 0 and 100`)
      // Postgres takes no NUL in a text, and one job's would keep all jobs' reports from being written.
      const words = message?.replaceAll('\0', '').slice(0, longestMessage).toWellFormed() ?? reports.get(id)?.message
      reports.set(id, { attempt, percent: Math.floor(percent), message: words })
      timer ??= setTimeout(() => {
        writing = writing.then(write)
      }, gatherFor)
    },
    forget: (id) => void reports.delete(id),
    async close() {
      clearTimeout(timer)
      await writing
    },
  }
}
