import { type RawBuilder, sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import { runInIndexOrder } from '../../src/db/plan-settings.ts'
import { operationsWithDueJobs } from '../../src/queue/due-jobs.ts'
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
  /**
   * Whether it is time to look for orphaned jobs. If it is true for several workers, only the first one looks for them.
   */
  isRescueDue: boolean
  /** Whether it is time to reconcile. If several workers find this, only the first worker reconciles. */
  isReconcileDue: boolean
  /** Whether the end of a job is decided. Its operation may be unknown to this worker. */
  hasEndings: boolean
  /** Whether a job waits for its children. */
  hasParents: boolean
}

/**
 * Looks in one statement for all work that a worker may have to do. Finds work whose notification was lost. An idle
 * worker sends no other query as often as this one.
 *
 * @param operations the operations that this worker runs
 * @param schedules the schedules that this worker fires
 * @param scheduleNow the time by which they fire
 */
export async function pollDueWork(
  { kysely }: Database,
  operations: readonly string[],
  schedules: readonly string[],
  scheduleNow: RawBuilder<Date> = sql`now()`,
): Promise<DueWork> {
  const statement = sql<DueWork>`
    select
      ${operationsWithDueJobs(operations)} as operations,
      exists (
        select from accepted.schedule where name = any(${schedules}::text[]) and next_at <= ${scheduleNow}
      ) or exists (
        select from accepted.schedule_request where schedule = any(${schedules}::text[])
      ) as "hasSchedules",
      exists (select from accepted.quarantine where operation = any(${operations}::text[])) as "hasQuarantined",
      exists (
        select from accepted.rescue
        where operation = any(${operations}::text[])
          and checked_at < now() - make_interval(secs => ${rescueIntervalMs / 1000})
      ) as "isRescueDue",
      exists (
        select from accepted.reconciliation
        where compared_at < now() - make_interval(secs => ${compareIntervalMs / 1000})
      ) as "isReconcileDue",
      exists (select from accepted.ending where due_at <= now()) as "hasEndings",
      exists (select from accepted.parent) as "hasParents"`
  const { rows } = await runInIndexOrder(kysely, statement)
  return rows[0] as DueWork
}

/** Returns whether a job of these operations waits in quarantine only for its turn. */
export async function isQuarantinedDue({ kysely }: Database, operations: readonly string[]): Promise<boolean> {
  const statement = sql<{ is_due: boolean }>`
    select exists (
      select from accepted.quarantine
      where operation = any(${operations}::text[]) and reserved_until <= now() and not accepted.is_paused(operation)
        and ${isQuarantinedJobDue(sql`quarantine.operation`, sql`quarantine.queue_id`)}
    ) as is_due`
  return (await statement.execute(kysely)).rows[0]?.is_due === true
}
