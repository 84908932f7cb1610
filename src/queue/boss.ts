import { type Db, fromKysely, PgBoss } from 'pg-boss'
import type { Database } from '../db/database.ts'
import { markPostgresError } from '../db/postgres-error.ts'
import type { AnyTransaction } from '../operation.ts'
import { queueSchema } from './schema.ts'

/**
 * The column `data` of a queue row. It holds the id in `accepted.job`, because pg-boss may re-create the row under
 * another id.
 */
export interface QueueData {
  job: string
  payload: unknown
}

export type { PgBoss } from 'pg-boss'

export interface BossOptions {
  /** Whether this process maintains the queues: true for workers, false for the API. */
  supervise: boolean
  onError: (error: Error) => void
}

/**
 * Starts pg-boss on our connection pool. So pg-boss opens no pool of its own, and it uses prepared statements as we do.
 *
 * @throws Error when pg-boss's schema is missing or has another version: run `accepted migrate` first
 */
export async function startBoss(database: Database, options: BossOptions): Promise<PgBoss> {
  const boss = new PgBoss({
    db: { executeSql: (text, values) => database.pool.query(text, values) },
    schema: queueSchema,
    migrate: false,
    schedule: false,
    // Lets pg-boss delete old rows and expire attempts. The rescuer, not pg-boss, handles dead workers.
    supervise: options.supervise,
    // Each time, pg-boss reads the whole queue, and while a transaction holds an old snapshot also the dead rows.
    superviseIntervalSeconds: 30,
    // How often pg-boss counts the backlog that the metrics show.
    monitorIntervalSeconds: 30,
    maintenanceIntervalSeconds: 300,
    // pg-boss checks dependencies between queue rows at this interval. We use no such dependencies.
    flowIntervalSeconds: 60,
  })
  boss.on('error', (error) => options.onError(toError(error)))
  return boss.start()
}

/**
 * pg-boss reports some errors as plain objects. They come from Postgres, because pg-boss runs all its statements on our
 * pool.
 */
const toError = (error: Error): Error =>
  error instanceof Error ? error : markPostgresError(Object.assign(new Error(), error))

/** Makes pg-boss use the connection of a transaction. */
export const bossOn = (trx: AnyTransaction): Db => fromKysely(trx)
