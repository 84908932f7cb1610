import { type RawBuilder, sql } from 'kysely'
import { ConfigError } from '../config.ts'
import { parseDuration } from './parse-duration.ts'

/** The greatest value of an `integer` in Postgres. */
export const maxInteger = 2 ** 31 - 1

/** Reads the value of `--limit`. */
export function parseLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const limit = Number(text)
  if (!Number.isInteger(limit) || limit < 1 || limit > maxInteger) {
    throw new ConfigError(`--limit must be an integer from 1 to ${maxInteger}, not '${text}'.`)
  }
  return limit
}

/**
 * Reads the value of an option that is a time or an age. Returns a time in SQL: the age is one by the clock of the
 * database, which also sets the times of the jobs.
 */
export function parseTime(option: string, text: string | undefined): RawBuilder<Date> | undefined {
  if (text === undefined) return undefined
  const seconds = parseDuration(text)
  if (seconds !== undefined) return sql`now() - make_interval(secs => ${seconds})`
  const time = new Date(text)
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time.getTime())) return sql`${time}::timestamptz`
  throw new ConfigError(
    `${option} must be a duration like 24h or 30m, or a time like 2027-02-14T12:00:00Z, not '${text}'.`,
  )
}
