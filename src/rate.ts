/** How many attempts may start in a period. */
export interface Rate {
  starts: number
  periodSeconds: number
}

const unitSeconds = { s: 1, m: 60, h: 3_600, d: 86_400 }
const maxStarts = 1_000_000
const maxPeriodSeconds = 31 * unitSeconds.d

/** Parses a rate such as `100/1m`. Returns undefined when it is invalid. */
export function parseRate(rate: unknown): Rate | undefined {
  const [, starts, count = '1', unit] = /^(\d{1,7})\/(\d{1,7})?([smhd])$/.exec(String(rate)) ?? []
  const parsed = {
    starts: Number(starts),
    periodSeconds: Number(count) * unitSeconds[unit as keyof typeof unitSeconds],
  }
  const isStarts = parsed.starts >= 1 && parsed.starts <= maxStarts
  return isStarts && parsed.periodSeconds >= 1 && parsed.periodSeconds <= maxPeriodSeconds ? parsed : undefined
}
