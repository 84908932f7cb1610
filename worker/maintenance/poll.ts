import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import type { Operation } from '../../src/operation.ts'
import { isQuarantinedJobDue } from '../../src/queue/orphans.ts'
import { compareIntervalMs } from './reconciler.ts'
import { rescueIntervalMs } from './rescuer.ts'

/** What a poll has found. */
export interface DueWork {
  /** Operations with a due job. */
  operations: string[]
  /** Whether a schedule is due, or was requested to run. */
  hasSchedules: boolean
  hasQuarantined: boolean
  /** Whether there are orphaned jobs. If several workers find some, only the first worker rescues them. */
  hasOrphans: boolean
  /** Whether it is time to reconcile. If several workers find this, only the first worker reconciles. */
  isReconcileDue: boolean
  /** Whether the end of a job is decided. Its operation may be unknown to this worker. */
  hasEndings: boolean
  /** Whether a job waits for its children. */
  hasParents: boolean
  /** Whether a job waits for another job. */
  hasDependencies: boolean
}

export interface PollOptions {
  /** Operations whose due jobs need not be found. Default: none. */
  busy?: readonly string[]
  /** The time by which the schedules fire. Default: the time of the database. */
  scheduleNow?: RawBuilder<Date>
  /** Whether this worker rescues jobs; otherwise it leaves the search for orphaned jobs to others. Default: true. */
  rescues?: boolean
}

/**
 * Looks in one statement for all work that a worker may have to do. Finds work whose notification was lost. An idle
 * worker sends no other query as often as this one.
 *
 * @param operations the operations that this worker runs
 * @param schedules the schedules that this worker fires
 */
export async function pollDueWork(
  { kysely }: Database,
  operations: readonly Pick<Operation, 'name' | 'heartbeatSeconds'>[],
  schedules: readonly string[],
  { busy = [], scheduleNow = sql`now()`, rescues = true }: PollOptions = {},
): Promise<DueWork> {
  const { rows } = await sql<DueWork>`
    select
      due_operations as operations, has_schedules as "hasSchedules", has_quarantined as "hasQuarantined",
      has_orphans as "hasOrphans", is_comparison_due as "isReconcileDue", has_endings as "hasEndings",
      has_parents as "hasParents", has_dependencies as "hasDependencies"
    from accepted.find_due_work(
      ${operations.map(({ name }) => name)}::text[],
      ${operations.map(({ heartbeatSeconds }) => heartbeatSeconds)}::integer[], ${busy}::text[],
      ${schedules}::text[], ${scheduleNow}, ${rescues ? rescueIntervalMs / 1000 : null}::float8,
      ${compareIntervalMs / 1000}::float8
    )`.execute(kysely)
  return rows[0] as DueWork
}

/** Returns whether a job of these operations waits in quarantine only for its turn. */
export async function isQuarantinedDue(
  { kysely }: Database,
  operations: readonly Pick<Operation, 'name'>[],
): Promise<boolean> {
  const statement = sql<{ is_due: boolean }>`
    select exists (
      select from accepted.quarantine
      where operation = any(${operations.map(({ name }) => name)}::text[])
        and reserved_until <= now() and not accepted.is_paused(operation)
        and ${isQuarantinedJobDue(sql`quarantine.operation`, sql`quarantine.queue_id`)}
    ) as is_due`
  return (await statement.execute(kysely)).rows[0]?.is_due === true
}
