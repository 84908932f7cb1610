import pg from 'pg'
import { formatNumber } from '../primitives/format-count.ts'

const units = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min'],
] as const

/** Formats a duration with one unit, for example `12 min`. */
export function formatSeconds(seconds: number): string {
  const [length, unit] = units.find(([length]) => seconds >= length) ?? [1, 's']
  return `${Math.round(seconds / length)} ${unit}`
}

/** Formats a size in megabytes. */
export const formatBytes = (bytes: number): string => `${formatNumber(Math.round(bytes / 2 ** 20))} MB`

/** Formats a text as a literal of SQL. */
export const literal = pg.escapeLiteral

/** Formats a name as an identifier of SQL. */
export const identifier = (name: string): string =>
  /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
