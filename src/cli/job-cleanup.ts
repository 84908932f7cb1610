import { type RawBuilder, sql } from 'kysely'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import { formatCount, formatNumber } from '../primitives/format-count.ts'
import { callFunction } from './call-function.ts'
import type { OutputOptions } from './output-options.ts'
import { parseTime } from './parse-options.ts'
import { createLiveLine } from './progress-bar.ts'
import { withDatabase } from './with-database.ts'

interface ExpireOptions extends OutputOptions {
  before?: string
  operation?: string
  dryRun?: boolean
}

/** Runs `accepted jobs expire`: expires the records of ended jobs, a day at a time, so that it may be interrupted. */
export async function expireJobsCommand(options: ExpireOptions): Promise<void> {
  const { operation = null, dryRun, json } = options
  const time = parseTime('--before', options.before)
  if (!time) throw new ConfigError('--before is missing. For the jobs that ended more than 30 days ago: --before 30d')
  const expired = await withDatabase(async (db) => {
    const { before, days } = await readDays(db, time, operation)
    return dryRun ? sumOf(days) : expireDays(db, before, days, operation)
  })
  if (json) return console.log(JSON.stringify({ expired, dryRun: dryRun ?? false }))
  console.log(`${dryRun ? 'Would expire' : 'Expired'} ${formatCount(expired, 'job')}.`)
}

/** The jobs that ended on a day (UTC) and have not expired. */
interface EndedDay {
  /** The end of the day, or the given time on the last day. */
  ends_at: Date
  jobs: number
}

const sumOf = (days: readonly EndedDay[]) => days.reduce((sum, { jobs }) => sum + jobs, 0)

async function readDays(db: Database['kysely'], time: RawBuilder<Date>, operation: string | null) {
  const { rows } = await sql<{ before: Date }>`select ${time} as before`.execute(db)
  const before = rows[0]?.before as Date
  const { rows: days } = await sql<EndedDay>`
    select least((day + 1)::timestamp at time zone 'UTC', ${before}) as ends_at, count(*)::integer as jobs
    from accepted.job cross join lateral (select (ended_at at time zone 'UTC')::date as day) ended
    where ended_at < ${before} and expires_at > now() and (${operation}::text is null or operation = ${operation})
    group by day order by day`.execute(db)
  return { before, days }
}

async function expireDays(
  db: Database['kysely'],
  before: Date,
  days: readonly EndedDay[],
  operation: string | null,
): Promise<number> {
  const line = createLiveLine()
  const total = sumOf(days)
  let expired = 0
  const startedAt = performance.now()
  const show = () => {
    const seconds = Math.round((performance.now() - startedAt) / 1000)
    line.show((100 * expired) / Math.max(1, total), `${formatNumber(expired)} of ${formatNumber(total)}, ${seconds} s`)
  }
  // A day with many jobs takes a while.
  const timer = setInterval(show, 1_000)
  try {
    // Also checks the name of the operation if there is nothing to expire.
    for (const time of days.length > 0 ? days.map((day) => day.ends_at) : [before]) {
      show()
      const statement = sql<{ jobs: string }>`select accepted.expire(${time}, ${operation}) as jobs`
      expired += Number((await callFunction(db, statement))?.jobs)
    }
  } finally {
    clearInterval(timer)
    line.clear()
  }
  return expired
}

interface ForgetOptions extends OutputOptions {
  cancelPending?: boolean
}

/** Runs `accepted jobs forget`: deletes the jobs of a principal, in one transaction. */
export async function forgetJobsCommand(principal: string, options: ForgetOptions): Promise<void> {
  const line = createLiveLine()
  const startedAt = performance.now()
  const timer = setInterval(() => {
    line.say(`Deleting the jobs of ${principal}: ${Math.round((performance.now() - startedAt) / 1000)} s`)
  }, 1_000)
  const statement = sql<{ jobs: string }>`
    select accepted.forget(${principal}, ${options.cancelPending ?? false}::boolean) as jobs`
  try {
    const jobs = Number((await withDatabase((db) => callFunction(db, statement)))?.jobs)
    line.clear()
    console.log(options.json ? JSON.stringify({ forgotten: jobs }) : `Deleted ${formatCount(jobs, 'job')}.`)
  } finally {
    clearInterval(timer)
    line.clear()
  }
}
