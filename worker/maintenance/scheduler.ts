import { sql } from 'kysely'
import { rowLock } from '../../src/db/locks.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { isOutage } from '../../src/db/sqlstate.ts'
import { transact } from '../../src/db/transaction.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { defaultKeepSeconds, type Operation } from '../../src/operation.ts'
import { atDefinition } from '../../src/primitives/definition-site.ts'
import type { Schedule } from '../../src/schedule.ts'
import { findMismatch } from '../../src/validation.ts'
import { createJob, decide, nextOccurrences } from './occurrences.ts'
import { type SchedulerContext, scheduleTime } from './schedule-context.ts'
import { findRequests, fulfil } from './schedule-requests.ts'

/** How many of the next occurrences `accepted.schedule` shows. */
const shownOccurrences = 5

/**
 * Writes the defined schedules to `accepted.schedule`. Runs when a worker starts, and every minute after that: while
 * two releases run, a worker of the older release may start last and write its old definitions.
 *
 * @returns the names of the schedules that have no occurrence left
 * @throws TypeError that names the schedule whose expression or time zone is invalid
 */
export async function writeSchedules(context: SchedulerContext): Promise<string[]> {
  const { database, boss, schedules } = context
  if (schedules.size === 0) return []
  const defined = [...schedules.values()]
  const clock = await sql<{ now: Date }>`select ${scheduleTime(context)} as now`.execute(database.kysely)
  const { now } = clock.rows[0] as { now: Date }
  const rows = defined.map((schedule) => {
    const { name, operation, expression, timezone } = schedule
    const [next = null, ...later] = nextOccurrences(boss, schedule, now, shownOccurrences)
    return { name, operation: operation.name, expression, timezone, next_at: next, later_at: later }
  })
  // An unchanged schedule keeps its next occurrence, even if that occurrence was missed.
  await sql`
    insert into accepted.schedule as stored (name, operation, expression, timezone, next_at, later_at)
    select name, operation, expression, timezone, next_at, later_at
    from json_to_recordset(${JSON.stringify(rows)}::json) as defined
      (name text, operation text, expression text, timezone text, next_at timestamptz, later_at timestamptz[])
    order by name
    on conflict on constraint schedule_pkey do update set
      operation = excluded.operation, expression = excluded.expression, timezone = excluded.timezone,
      next_at = case
        when (stored.expression, stored.timezone) = (excluded.expression, excluded.timezone) then stored.next_at
        else excluded.next_at
      end,
      later_at = excluded.later_at,
      updated_at = now()
    where (stored.operation, stored.expression, stored.timezone)
      <> (excluded.operation, excluded.expression, excluded.timezone)`.execute(database.kysely)
  return rows.filter(({ next_at: next }) => next === null).map(({ name }) => name)
}

/**
 * Deletes schedules that are no longer defined. Two kinds of schedules are kept until their next occurrence is 7 days
 * overdue:
 * - schedules of unknown operations, because they may belong to another app in the same database
 * - paused schedules, because a newer release may define them and must find them paused
 */
export async function deleteObsoleteSchedules(
  { database, schedules }: SchedulerContext,
  operations: ReadonlyMap<string, Operation>,
): Promise<void> {
  await sql`
    delete from accepted.schedule
    where name <> all(${[...schedules.keys()]}::text[])
      and (operation = any(${[...operations.keys()]}::text[]) and not paused
        or next_at < now() - make_interval(secs => ${defaultKeepSeconds}))`.execute(database.kysely)
}

/**
 * Checks the payloads of schedules. A payload that a function returns is only checked when its schedule fires.
 *
 * @throws TypeError that names the schedule whose payload does not match the schema of its operation
 */
export function assertSchedulePayloads(schedules: ReadonlyMap<string, Schedule>): void {
  for (const schedule of schedules.values()) {
    const { name, operation, payload } = schedule
    const mismatch =
      typeof payload === 'function' ? undefined : findMismatch(operation.schemas.payload, payload, operation.seal)
    if (mismatch) {
      const message = `Schedule '${name}': its payload does not match the schema of '${operation.name}': ${mismatch}`
      throw atDefinition(new TypeError(message), schedule)
    }
  }
}

/** Creates the function that fires the due schedules. The job and the schedule's next occurrence commit together. */
export function createScheduler(context: SchedulerContext, notifier: Notifier): () => Promise<void> {
  const { schedules, log } = context
  // A schedule or a request that keeps failing is logged once, not every second.
  const failing = new Set<string>()
  const fireAll = async (schedule: Schedule) => {
    while (await fire(context, schedule, notifier)) failing.delete(schedule.name)
  }
  const attempt = async (schedule: string, id: string, message: string, run: () => Promise<void>) => {
    try {
      await run()
      failing.delete(id)
    } catch (err) {
      if (isOutage(err)) throw err
      if (!failing.has(id)) log.error({ err, schedule }, message)
      failing.add(id)
    }
  }
  return async () => {
    for (const name of await findDue(context)) {
      const run = () => fireAll(schedules.get(name) as Schedule)
      await attempt(name, name, 'Schedule could not fire; retrying every second', run)
    }
    for (const { id, schedule: name } of await findRequests(context)) {
      const run = () => fulfil(context, schedules.get(name) as Schedule, id, notifier)
      await attempt(name, id, 'Requested run of a schedule failed; retrying every second for a day', run)
    }
  }
}

async function findDue(context: SchedulerContext): Promise<string[]> {
  const { database, schedules } = context
  if (schedules.size === 0) return []
  const { rows } = await sql<{ name: string }>`
    select name from accepted.schedule
    where name = any(${[...schedules.keys()]}::text[]) and next_at <= ${scheduleTime(context)}`.execute(database.kysely)
  return rows.map(({ name }) => name)
}

/**
 * Fires one due occurrence of a schedule.
 *
 * @returns whether an occurrence was due; then the next occurrence may be due too
 */
async function fire(context: SchedulerContext, schedule: Schedule, notifier: Notifier): Promise<boolean> {
  const { database, boss, seals } = context
  const { name, expression, timezone, operation } = schedule
  const { isDue, job } = await transact(database, async (trx) => {
    // There is no row when another worker is firing the schedule, or another release has changed its definition.
    const { rows } = await sql<{ due: Date; now: Date; paused: boolean }>`
      select next_at as due, ${scheduleTime(context)} as now, paused from accepted.schedule
      where name = ${name} and operation = ${operation.name} and expression = ${expression} and timezone = ${timezone}
        and next_at <= ${scheduleTime(context)}
      ${rowLock.skip}`.execute(trx)
    const [row] = rows
    if (!row) return { isDue: false }
    const { fire: at = null, next } = decide(boss, schedule, row)
    const job = at && createJob(schedule, at)
    if (job) await enqueue(boss, trx, [job], seals)
    const later = next === null ? [] : nextOccurrences(boss, schedule, next, shownOccurrences - 1)
    await sql`
      update accepted.schedule set
        next_at = ${next}, later_at = ${later}::timestamptz[],
        last_at = coalesce(${at}, last_at), last_job_id = coalesce(${job?.id ?? null}, last_job_id),
        done = case when ${at}::timestamptz is null then done else done + tstzmultirange(tstzrange(${at}, ${next})) end
      where name = ${name}`.execute(trx)
    return { isDue: true, job }
  })
  if (job) {
    notifier.notify('work', [operation.name])
    notifier.notify('status', [job.id])
  }
  return isDue
}
