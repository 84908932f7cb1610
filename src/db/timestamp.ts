import { type RawBuilder, sql } from 'kysely'

/** A time with an offset, in the output format ISO of Postgres, or in its JSON. */
const pattern =
  /^(\d{4,})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,3})\d*)?([+-])(\d\d+)(?::(\d\d))?(?::(\d\d))?( BC)?$/

/**
 * Reads a `timestamptz`. Neither `Date` nor node-postgres reads every offset that a time zone of Postgres can have: a
 * POSIX time zone may be up to 167 hours away from UTC.
 *
 * @returns an infinite number for `infinity` and `-infinity`, as node-postgres does
 */
export function parseTimestamp(text: string): Date | number {
  const [, year, month, day, hours, minutes, seconds, fraction = '', sign, ...rest] = pattern.exec(text) ?? []
  if (year === undefined) return text === '-infinity' ? -Infinity : text === 'infinity' ? Infinity : new Date(text)
  const [offsetHours, offsetMinutes, offsetSeconds, era] = rest
  const date = new Date(0)
  // The year before 1 AD is 1 BC, which JavaScript calls 0.
  date.setUTCFullYear(era ? 1 - Number(year) : Number(year), Number(month) - 1, Number(day))
  const offset = Number(offsetHours) * 3_600 + Number(offsetMinutes ?? 0) * 60 + Number(offsetSeconds ?? 0)
  const time = Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds) - (sign === '-' ? -offset : offset)
  return new Date(date.getTime() + time * 1_000 + Number(fraction.padEnd(3, '0')))
}

/**
 * The milliseconds of a time since 1970, as text: the type parsers of the app may show numbers and dates differently.
 */
export const milliseconds = (time: RawBuilder<unknown>): RawBuilder<string> =>
  sql<string>`floor(extract(epoch from ${time}) * 1000)::text`
