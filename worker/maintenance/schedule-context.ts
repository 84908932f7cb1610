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
}
