const minute = 60
const hour = 60 * minute
const day = 24 * hour

/** The delay before each retry, in seconds. */
const retryDelaysSeconds = [5, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, day]

/**
 * Returns the pause before the next attempt, in seconds. The jitter of 10 % spreads deliveries that would otherwise
 * retry at the same time.
 *
 * @param attempt number of the failed attempt, from 1
 * @param retryAfter seconds of the answer's Retry-After
 */
export function retryDelay({ attempt }: { attempt: number }, retryAfter = 0): number {
  const delay = retryDelaysSeconds[attempt - 1] ?? day
  return Math.max(delay * (0.9 + 0.2 * Math.random()), retryAfter)
}

/**
 * Parses a Retry-After header (RFC 9110, section 10.2.3). Returns seconds, at most a day; 0 when the header is absent
 * or invalid.
 */
export function parseRetryAfter(value: string | undefined): number {
  if (value === undefined) return 0
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return Math.min(Math.max(seconds || 0, 0), day)
}
