import { sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import { rowLock } from '../../src/db/locks.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { isOutage } from '../../src/db/sqlstate.ts'
import { transact } from '../../src/db/transaction.ts'
import { enqueue, type NewJob } from '../../src/jobs/enqueue.ts'
import type { Seals } from '../../src/jobs/seals.ts'
import { defaultKeepSeconds, type Operation } from '../../src/operation.ts'
import { atDefinition } from '../../src/primitives/definition-site.ts'
import { uuid7 } from '../../src/primitives/uuid.ts'
import type { PgBoss } from '../../src/queue/boss.ts'
import type { Schedule } from '../../src/schedule.ts'
import { assertPayload, findMismatch } from '../../src/validation.ts'
import { decide, nextOccurrence } from './occurrences.ts'

/** The schedules of a worker, and what the worker needs to fire them. */
export interface SchedulerContext {
  database: Database
  boss: PgBoss
  /** Required for schedules of operations that seal members. */
  seals?: Seals
  schedules: ReadonlyMap<string, Schedule>
  log: Logger
}

/**
 * Writes the defined schedules to `accepted.schedule`. Runs when a worker starts, and every minute after that: while
 * two releases run, a worker of the older release may start last and write its old definitions.
 *
 * @returns the names of the schedules that have no occurrence left
 * @throws TypeError that names the schedule whose expression or time zone is invalid
 */
export async function writeSchedules({ database, boss, schedules }: SchedulerContext): Promise<string[]> {
  if (schedules.size === 0) return []
  const defined = [...schedules.values()]
  const { rows } = await sql<{ now: Date }>`select now()`.execute(database.kysely)
  const { now } = rows[0] as { now: Date }
  const next = defined.map((schedule) => nextOccurrence(boss, schedule, now))
  const column = (value: (schedule: Schedule) => string) => defined.map(value)
  // An unchanged schedule keeps its next occurrence, even if that occurrence was missed.
  await sql`
    insert into accepted.schedule as stored (name, operation, expression, timezone, next_at)
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
        when (stored.expression, stored.timezone) = (excluded.expression, excluded.timezone) then stored.next_at
        else excluded.next_at
      end,
      updated_at = now()
    where (stored.operation, stored.expression, stored.timezone)
      <> (excluded.operation, excluded.expression, excluded.timezone)`.execute(database.kysely)
  return defined.filter((_, index) => next[index] === null).map(({ name }) => name)
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
  // A schedule that keeps failing is logged once, not every second.
  const failing = new Set<string>()
  const fireAll = async (schedule: Schedule) => {
    while (await fire(context, schedule, notifier)) failing.delete(schedule.name)
  }
  return async () => {
    for (const name of await findDue(context)) {
      try {
        await fireAll(schedules.get(name) as Schedule)
      } catch (err) {
        if (isOutage(err)) throw err
        if (!failing.has(name)) log.error({ err, schedule: name }, 'Schedule could not fire; retrying every second')
        failing.add(name)
      }
    }
  }
}

async function findDue({ database, schedules }: SchedulerContext): Promise<string[]> {
  if (schedules.size === 0) return []
  const { rows } = await sql<{ name: string }>`
    select name from accepted.schedule where name = any(${[...schedules.keys()]}::text[]) and next_at <= now()`.execute(
    database.kysely,
  )
  return rows.map(({ name }) => name)
}

/**
 * Fires one due occurrence of a schedule.
 *
 * @returns whether an occurrence was due; then the next occurrence may be due too
 */
async function fire(
  { database, boss, seals }: SchedulerContext,
  schedule: Schedule,
  notifier: Notifier,
): Promise<boolean> {
  const { name, expression, timezone, operation } = schedule
  const { isDue, job } = await transact(database, async (trx) => {
    // There is no row when another worker is firing the schedule, or another release has changed its definition.
    const { rows } = await sql<{ due: Date; now: Date; paused: boolean }>`
      select next_at as due, now(), paused from accepted.schedule
      where name = ${name} and operation = ${operation.name} and expression = ${expression} and timezone = ${timezone}
        and next_at <= now()
      ${rowLock.skip}`.execute(trx)
    const [row] = rows
    if (!row) return { isDue: false }
    const { fire: at = null, next } = decide(boss, schedule, row)
    const job = at && createJob(schedule, at)
    if (job) await enqueue(boss, trx, [job], seals)
    await sql`
      update accepted.schedule set
        next_at = ${next}, last_at = coalesce(${at}, last_at), last_job_id = coalesce(${job?.id ?? null}, last_job_id)
      where name = ${name}`.execute(trx)
    return { isDue: true, job }
  })
  if (job) {
    notifier.notify('work', [operation.name])
    notifier.notify('status', [job.id])
  }
  return isDue
}

/**
 * Creates the job of an occurrence. If `next_at` was set back by hand, the same occurrence fires twice. The workers
 * then deduplicate its jobs by the idempotency key.
 */
function createJob({ name, operation, payload, principal }: Schedule, at: Date): NewJob {
  const value = typeof payload === 'function' ? payload(new Date(at)) : payload
  assertPayload(operation, value)
  return { id: uuid7(), operation, payload: value, principal, idempotencyKey: `schedule:${name}:${at.toISOString()}` }
}
