import { type Db, fromKysely, PgBoss } from 'pg-boss'
import type { Database } from '../db/database.ts'
import { allOrFirstCause, commitStatement } from '../db/pipeline.ts'
import { markPostgresError } from '../db/postgres-error.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
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
    superviseIntervalSeconds: 15,
    // How often pg-boss counts the backlog that the metrics show.
    monitorIntervalSeconds: 15,
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

/** A job to enqueue. */
export interface QueueEntry {
  id: string
  operation: Operation
  payload: unknown
  principal: string
  runAt?: Date | undefined
  priority?: number | undefined
  groupId?: string | undefined
  limitKey?: string | undefined
}

/**
 * Enqueues jobs within the transaction, in one round trip.
 *
 * @param end with `commit`, sends a COMMIT behind the last statement. `trx` must then be that of a {@link pipeline}.
 * @throws Error when pg-boss did not insert every job. For a missing queue or a duplicate id, pg-boss throws no error
 *   itself: it only returns fewer ids, and the commit would succeed.
 */
export async function enqueueAll(
  boss: PgBoss,
  trx: AnyTransaction,
  entries: readonly QueueEntry[],
  end?: 'commit',
): Promise<void> {
  const byOperation = Map.groupBy(entries, (entry) => entry.operation)
  let unsent = byOperation.size
  const db = (count: number): Db => ({
    async executeSql(text, values = []) {
      const inserting = insertAll(trx, text, values, count)
      const isLast = --unsent === 0
      await allOrFirstCause([inserting, isLast && end ? commitStatement(trx) : Promise.resolve()])
      return { rows: [] }
    },
  })
  const inserted = [...byOperation].map(async ([operation, ofOperation]) => {
    const jobs = ofOperation.map(({ id, payload, principal, runAt, priority, groupId, limitKey }) => ({
      id,
      // JSON drops undefined members. A queue row without a payload would count as damaged.
      data: { job: id, payload: payload ?? null } satisfies QueueData,
      priority: priority ?? operation.priority,
      // pg-boss only stores this key: it has no effect in queues of the policy `standard`. See accepted_turn_idx.
      singletonKey: limitKey ?? principal,
      ...(runAt && { startAfter: runAt.toISOString() }),
      ...(groupId !== undefined && { group: { id: groupId } }),
    }))
    await boss.insert(operation.name, jobs, { db: db(jobs.length), returnId: true }).catch((error) => {
      throw errorCode(error) === sqlstate.divisionByZero ? missingQueue(operation.name) : error
    })
  })
  await allOrFirstCause(inserted)
}

/** Runs a statement that inserts queue rows. It fails unless it inserts `count`, so that Postgres skips a COMMIT behind it. */
async function insertAll(trx: AnyTransaction, text: string, values: unknown[], count: number): Promise<void> {
  const all = `with inserted as (${text}) select 1 / (count(*) = $${values.length + 1})::integer from inserted`
  await bossOn(trx).executeSql(all, [...values, count])
}

/** Creates the error for a queue that did not take all jobs. */
export const missingQueue = (name: string): Error =>
  new Error(`The queue '${name}' is missing or rejected a job. Restart the API to create missing queues.`)
