import type { NewJob } from '../../src/jobs/new-job.ts'
import { atDefinition } from '../../src/primitives/definition-site.ts'
import { uuid7 } from '../../src/primitives/uuid.ts'
import type { PgBoss } from '../../src/queue/boss.ts'
import type { Schedule } from '../../src/schedule.ts'
import { assertPayload } from '../../src/validation.ts'

/** An occurrence that is overdue by more than this counts as missed. No occurrence is missed in a shorter restart. */
const missedAfterMs = 60_000

/**
 * Computes the first occurrence after a time; null when the rule has no more occurrences.
 *
 * @throws TypeError that names the schedule whose expression or time zone is invalid
 */
export const nextOccurrence = (boss: PgBoss, schedule: Schedule, after: Date): Date | null =>
  nextOccurrences(boss, schedule, after, 1)[0] ?? null

/**
 * Computes the first occurrences after a time; fewer than `count` when the rule has no more occurrences.
 *
 * @throws TypeError that names the schedule whose expression or time zone is invalid
 */
export function nextOccurrences(boss: PgBoss, schedule: Schedule, after: Date, count: number): Date[] {
  const { name, expression, timezone } = schedule
  try {
    return boss.previewSchedule(expression, { tz: timezone, from: after, count })
  } catch (cause) {
    const reason = (cause as Error).message
    const message = `Schedule '${name}': '${expression}' in ${timezone} is invalid: ${reason}`
    throw atDefinition(new TypeError(message, { cause }), schedule)
  }
}

/**
 * Finds the last occurrence at or before `until`. Bisects the time, because a rule can only compute its next
 * occurrence.
 *
 * @param earlier an occurrence at or before `until`
 */
export function lastOccurrence(boss: PgBoss, schedule: Schedule, earlier: Date, until: Date): Date {
  let last = earlier
  // No occurrence lies between this time and `until`.
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
  /** The occurrence for which a job is created; undefined when no job is created. */
  fire?: Date
  /** The next occurrence; null when the rule has no more occurrences. */
  next: Date | null
}

/** Decides how to handle one due occurrence. If the next occurrence is also due, it needs a decision of its own. */
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

/**
 * Creates the job of an occurrence. If `next_at` was set back by hand, the same occurrence fires twice. The workers
 * then deduplicate its jobs by the idempotency key.
 */
export function createJob(schedule: Schedule, at: Date): NewJob {
  const { name, operation, principal } = schedule
  const payload = payloadAt(schedule, at)
  return { id: uuid7(), operation, payload, principal, idempotencyKey: `schedule:${name}:${at.toISOString()}` }
}

/**
 * Returns the payload of a schedule's job for a time.
 *
 * @throws Error when the payload does not match the schema of the operation
 */
export function payloadAt({ operation, payload }: Schedule, at: Date): unknown {
  const value = typeof payload === 'function' ? payload(new Date(at)) : payload
  assertPayload(operation, value)
  return value
}
