import { type RawBuilder, sql } from 'kysely'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import type { Seals } from '../../src/jobs/seals.ts'
import type { PgBoss } from '../../src/queue/boss.ts'
import type { Schedule } from '../../src/schedule.ts'

/** The schedules of a worker, and what the worker needs to fire them. */
export interface SchedulerContext {
  database: Database
  boss: PgBoss
  /** Required for schedules of operations that seal members. */
  seals?: Seals
  schedules: ReadonlyMap<string, Schedule>
  log: Logger
  /** Returns an expression of the time by which schedules fire. Default: the clock of the database. */
  now?: () => RawBuilder<Date>
}

/** An expression: the time by which schedules fire. */
export const scheduleTime = ({ now }: SchedulerContext): RawBuilder<Date> => now?.() ?? sql<Date>`now()`
