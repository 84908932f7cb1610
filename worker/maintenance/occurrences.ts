import type { PgBoss } from '../../src/queue/boss.ts'
import type { Schedule } from '../../src/schedule.ts'

/** An occurrence that is overdue by more than this counts as missed. A restart that takes less time misses none. */
const missedAfterMs = 60_000

/**
 * Computes the first occurrence after a time; null when a finite rule has no more.
 *
 * @throws TypeError naming the schedule whose expression or time zone is invalid
 */
export function nextOccurrence(boss: PgBoss, schedule: Schedule, after: Date): Date | null {
  const { name, expression, timezone } = schedule
  try {
    return boss.previewSchedule(expression, { tz: timezone, from: after, count: 1 })[0] ?? null
  } catch (cause) {
    const reason = (cause as Error).message
    throw new TypeError(`Schedule '${name}': '${expression}' in ${timezone} is invalid: ${reason}`, { cause })
  }
}

/**
 * Finds the last occurrence up to a time, by bisection, because rules only yield the next occurrence.
 *
 * @param earlier an occurrence at or before `until`
 */
export function lastOccurrence(boss: PgBoss, schedule: Schedule, earlier: Date, until: Date): Date {
  let last = earlier
  // There is no occurrence after this time, up to `until`.
  let emptyFrom = until.getTime()
  for (;;) {
    const following = nextOccurrence(boss, schedule, last)
    if (!following || following > until) return last
    const middle = new Date((following.getTime() + emptyFrom) / 2)
    const later = nextOccurrence(boss, schedule, middle)
    if (later && later <= until) {
      last = later
    } else {
      last = following
      emptyFrom = middle.getTime()
    }
  }
}

/** How to handle a schedule that is due. */
export interface Decision {
  /** The occurrence that becomes a job; undefined when none does. */
  fire?: Date
  /** The next occurrence; null when there are no more. */
  next: Date | null
}

/** Decides how to handle one due occurrence. The next one may be due as well, and is then decided separately. */
export function decide(
  boss: PgBoss,
  schedule: Schedule,
  { due, now, paused }: { due: Date; now: Date; paused: boolean },
): Decision {
  const after = (time: Date) => nextOccurrence(boss, schedule, time)
  if (paused) return { next: after(now) }
  const missedBefore = new Date(now.getTime() - missedAfterMs)
  if (due >= missedBefore) return { fire: due, next: after(due) }
  if (schedule.missed === 'skip') return { next: after(missedBefore) }
  const last = lastOccurrence(boss, schedule, due, now)
  return { fire: last, next: after(last) }
}
