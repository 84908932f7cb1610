import { type RawBuilder, sql } from 'kysely'

/** A length of time. Its members add up. */
export interface Duration {
  days?: number
  hours?: number
  minutes?: number
  seconds?: number
  milliseconds?: number
}

const unitMs: Readonly<Record<keyof Duration, number>> = {
  days: 86_400_000,
  hours: 3_600_000,
  minutes: 60_000,
  seconds: 1_000,
  milliseconds: 1,
}

/**
 * Converts a duration to milliseconds.
 *
 * @throws TypeError when it has an unknown unit, no unit, or a value that is not a number of at least 0
 */
export function toMs(duration: Duration): number {
  const entries = Object.entries(duration)
  const isValid = ([unit, value]: [string, unknown]) =>
    Object.hasOwn(unitMs, unit) && typeof value === 'number' && value >= 0 && Number.isFinite(value)
  if (entries.length === 0 || !entries.every(isValid)) {
    throw new TypeError(
      `advance requires a duration like { hours: 1 }, with ${Object.keys(unitMs).join(', ')}, not ${JSON.stringify(duration)}`,
    )
  }
  return Math.round(entries.reduce((sum, [unit, value]) => sum + value * unitMs[unit as keyof Duration], 0))
}

/** The time by which schedules fire in a test. It stands still between two calls of `advance`. */
export class Clock {
  #now: number

  constructor(now: Date) {
    this.#now = now.getTime()
  }

  now(): Date {
    return new Date(this.#now)
  }

  advance(ms: number): void {
    this.#now += ms
  }

  /** An expression of the time. */
  readonly expression = (): RawBuilder<Date> => sql<Date>`${this.now().toISOString()}::timestamptz`
}
