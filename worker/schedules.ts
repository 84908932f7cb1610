import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { PgBoss } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import type { Notifier } from '../src/db/notifier.ts'
import { isOutage } from '../src/db/sqlstate.ts'
import { transact } from '../src/db/transaction.ts'
import { enqueue, type NewJob } from '../src/jobs/enqueue.ts'
import { keepSeconds, type Operation } from '../src/operation.ts'
import type { Schedule } from '../src/schedule.ts'
import { uuid7 } from '../src/uuid.ts'
import { assertPayload, findMismatch } from '../src/validation.ts'

/** What schedules work with. */
export interface Scheduling {
  database: Database
  boss: PgBoss
  schedules: ReadonlyMap<string, Schedule>
  log: Logger
}

/** An occurrence that is older has been missed, in milliseconds; a restart within it misses nothing. */
const missedAfter = 60_000

/**
 * The first occurrence after a time; null when a finite rule has none left.
 *
 * @throws TypeError naming the schedule, when its expression or its time zone cannot be used
 */
export function nextOccurrence(boss: PgBoss, schedule: Schedule, after: Date): Date | null {
  const { name, expression, timezone } = schedule
  try {
    return boss.previewSchedule(expression, { tz: timezone, from: after, count: 1 })[0] ?? null
  } catch (cause) {
    const reason = (cause as Error).message
    throw new TypeError(`Schedule '${name}': '${expression}' in ${timezone} cannot be used: ${reason}`, { cause })
  }
}

/** The last occurrence up to a time, from one that is known to be earlier: by bisection, as rules are only read forwards. */
export function lastOccurrence(boss: PgBoss, schedule: Schedule, known: Date, until: Date): Date {
  let last = known
  // Between here and the end there is none.
  let empty = until.getTime()
  for (;;) {
    const following = nextOccurrence(boss, schedule, last)
    if (!following || following > until) return last
    const middle = new Date((following.getTime() + empty) / 2)
    const later = nextOccurrence(boss, schedule, middle)
    if (later && later <= until) {
      last = later
    } else {
      last = following
      empty = middle.getTime()
    }
  }
}

/** What is to be done about a schedule that is due. */
export interface Decision {
  /** The occurrence that becomes a job; none when it is skipped, or the schedule paused. */
  fire?: Date
  next: Date | null
}

/** Decides about a schedule whose next occurrence is due: one occurrence at a time, until the next one lies ahead. */
export function decide(
  boss: PgBoss,
  schedule: Schedule,
  { due, now, paused }: { due: Date; now: Date; paused: boolean },
): Decision {
  const after = (time: Date) => nextOccurrence(boss, schedule, time)
  if (paused) return { next: after(now) }
  const oldest = new Date(now.getTime() - missedAfter)
  if (due >= oldest) return { fire: due, next: after(due) }
  if (schedule.missed === 'skip') return { next: after(oldest) }
  const last = lastOccurrence(boss, schedule, due, now)
  return { fire: last, next: after(last) }
}

/**
 * Brings `accepted.schedule` in line with what is defined: at the start of a worker, which also deletes what is not
 * defined any more. Again and again after that, for while two releases run, the older one may start last.
 *
 * @returns the names of those that have no occurrence left
 * @throws TypeError naming the schedule that cannot be used
 */
export async function writeSchedules({ database, boss, schedules }: Scheduling): Promise<string[]> {
  if (schedules.size === 0) return []
  const defined = [...schedules.values()]
  const { rows } = await sql<{ now: Date }>`select now()`.execute(database.kysely)
  const { now } = rows[0] as { now: Date }
  const next = defined.map((schedule) => nextOccurrence(boss, schedule, now))
  const column = (value: (schedule: Schedule) => string) => defined.map(value)
  // What has not changed keeps when it is due next: that may have been missed.
  await sql`
    insert into accepted.schedule as known (name, operation, expression, timezone, next_at)
    select name, operation, expression, timezone, next_at
    from unnest(
      ${column(({ name }) => name)}::text[],
      ${column(({ operation }) => operation.name)}::text[],
      ${column(({ expression }) => expression)}::text[],
      ${column(({ timezone }) => timezone)}::text[],
      ${next}::timestamptz[]
    ) as defined (name, operation, expression, timezone, next_at)
    order by name
    on conflict on constraint schedule_pkey do update set
      operation = excluded.operation, expression = excluded.expression, timezone = excluded.timezone,
      next_at = case
        when (known.expression, known.timezone) = (excluded.expression, excluded.timezone) then known.next_at
        else excluded.next_at
      end,
      updated_at = now()
    where (known.operation, known.expression, known.timezone)
      <> (excluded.operation, excluded.expression, excluded.timezone)`.execute(database.kysely)
  return defined.filter((_, index) => next[index] === null).map(({ name }) => name)
}

/**
 * Deletes the schedules that are defined no more: those of operations that are known here, for another app may have its
 * own in the same database; and those that nobody has fired for as long as records are kept. A paused one only then: an
 * older release that starts while a newer one runs must not make it forget that.
 */
export async function deleteOtherSchedules(
  { database, schedules }: Scheduling,
  operations: ReadonlyMap<string, Operation>,
): Promise<void> {
  await sql`
    delete from accepted.schedule
    where name <> all(${[...schedules.keys()]}::text[])
      and (operation = any(${[...operations.keys()]}::text[]) and not paused
        or next_at < now() - make_interval(secs => ${keepSeconds}))`.execute(database.kysely)
}

/** @throws TypeError naming the schedule whose payload does not fit its operation; what a function makes is seen later */
export function assertPayloads(schedules: ReadonlyMap<string, Schedule>): void {
  for (const { name, operation, payload } of schedules.values()) {
    const mismatch = typeof payload === 'function' ? undefined : findMismatch(operation.schemas.payload, payload)
    if (mismatch) {
      throw new TypeError(`Schedule '${name}': its payload does not fit the schema of '${operation.name}': ${mismatch}`)
    }
  }
}

/** Makes what fires the schedules that are due: the job of an occurrence commits with the move to the next one. */
export function createFiring(scheduling: Scheduling, hints: Notifier): () => Promise<void> {
  const { schedules, log } = scheduling
  // Each once until it fires again, not each second.
  const reported = new Set<string>()
  const fireAll = async (schedule: Schedule) => {
    while (await fire(scheduling, schedule, hints)) reported.delete(schedule.name)
  }
  return async () => {
    for (const name of await findDue(scheduling)) {
      try {
        await fireAll(schedules.get(name) as Schedule)
      } catch (err) {
        if (isOutage(err)) throw err
        if (!reported.has(name)) log.error({ err, schedule: name }, 'A schedule could not fire; it is tried again')
        reported.add(name)
      }
    }
  }
}

async function findDue({ database, schedules }: Scheduling): Promise<string[]> {
  if (schedules.size === 0) return []
  const { rows } = await sql<{ name: string }>`
    select name from accepted.schedule where name = any(${[...schedules.keys()]}::text[]) and next_at <= now()`.execute(
    database.kysely,
  )
  return rows.map(({ name }) => name)
}

/** Deals with one occurrence; answers whether there was one. */
async function fire({ database, boss }: Scheduling, schedule: Schedule, hints: Notifier): Promise<boolean> {
  const { name, expression, timezone, operation } = schedule
  const { isDue, job } = await transact(database, async (trx) => {
    // Another worker has it in hand, or has another definition of it, which is not ours to fire.
    const { rows } = await sql<{ due: Date; now: Date; paused: boolean }>`
      select next_at as due, now(), paused from accepted.schedule
      where name = ${name} and operation = ${operation.name} and expression = ${expression} and timezone = ${timezone}
        and next_at <= now()
      for update skip locked`.execute(trx)
    const [row] = rows
    if (!row) return { isDue: false }
    const { fire: at = null, next } = decide(boss, schedule, row)
    const job = at && jobOf(schedule, at)
    if (job) await enqueue(boss, trx, [job])
    await sql`
      update accepted.schedule set
        next_at = ${next}, last_at = coalesce(${at}, last_at), last_job_id = coalesce(${job?.id ?? null}, last_job_id)
      where name = ${name}`.execute(trx)
    return { isDue: true, job }
  })
  if (job) {
    hints.notify('work', [operation.name])
    hints.notify('status', [job.id])
  }
  return isDue
}

/** The job of an occurrence. By its key the worker de-duplicates, should somebody set `next_at` back. */
function jobOf({ name, operation, payload, principal }: Schedule, at: Date): NewJob {
  const made = typeof payload === 'function' ? payload(new Date(at)) : payload
  assertPayload(operation, made)
  return { id: uuid7(), operation, payload: made, principal, idempotencyKey: `schedule:${name}:${at.toISOString()}` }
}
