import { type Db, fromKysely, PgBoss, type Queue } from 'pg-boss'
import type { Database } from '../db/database.ts'
import { markPostgresError } from '../db/postgres-error.ts'
import { retryOnContention } from '../db/transaction-retry.ts'
import { type AnyTransaction, keepSeconds, type Operation } from '../operation.ts'
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
 * How long after the operation's timeout pg-boss expires an attempt, in seconds. An attempt gets this old only when a
 * live worker cannot finish it: the jobs of a dead worker are rescued much earlier. The value is an hour, so that an
 * outage of Postgres uses up no attempt.
 */
const settleGraceSeconds = 3600

/**
 * How long pg-boss keeps the queue row of a failed or canceled job, in seconds. The job's status is in `accepted.job`.
 */
const deleteEndedAfterSeconds = 3600

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

function queueOptions(operation: Operation): Omit<Queue, 'name' | 'policy'> {
  const { retry } = operation
  return {
    retryLimit: retry.limit,
    retryDelay: retry.delaySeconds,
    retryBackoff: retry.backoff,
    ...(retry.backoff && { retryDelayMax: retry.maxDelaySeconds }),
    expireInSeconds: operation.timeoutSeconds + settleGraceSeconds,
    // pg-boss silently deletes a job that waits longer than this. Our own retention must end before that.
    retentionSeconds: 2 * keepSeconds,
    deleteAfterSeconds: deleteEndedAfterSeconds,
  }
}

/**
 * Creates the queues of the operations, or updates their options. Also fills pg-boss's queue cache. On a cache miss in
 * a transaction, pg-boss would take a second connection, and would deadlock if the pool had none left.
 */
export async function prepareQueues(boss: PgBoss, operations: Iterable<Operation>): Promise<void> {
  for (const operation of operations) {
    await retryOnContention(() => prepareQueue(boss, operation))
    await boss.findJobs(operation.name, { id: '00000000-0000-0000-0000-000000000000' })
  }
}

async function prepareQueue(boss: PgBoss, operation: Operation): Promise<void> {
  const wanted = queueOptions(operation)
  const found = await boss.getQueue(operation.name)
  if (!found) {
    await boss.createQueue(operation.name, wanted)
  } else if (Object.entries(wanted).some(([option, value]) => found[option as keyof Queue] !== value)) {
    await boss.updateQueue(operation.name, wanted)
  }
}

/** Makes pg-boss use the connection of a transaction. */
export const bossOn = (trx: AnyTransaction): Db => fromKysely(trx)

/** A job to enqueue. */
export interface QueueEntry {
  id: string
  operation: Operation
  payload: unknown
  runAt?: Date | undefined
  priority?: number | undefined
}

/**
 * Enqueues jobs within the transaction.
 *
 * @throws Error when pg-boss did not insert every job. For a missing queue or a duplicate id, pg-boss throws no error
 *   itself: it only returns fewer ids, and the commit would succeed.
 */
export async function enqueueAll(boss: PgBoss, trx: AnyTransaction, entries: readonly QueueEntry[]): Promise<void> {
  for (const [operation, ofOperation] of Map.groupBy(entries, (entry) => entry.operation)) {
    const jobs = ofOperation.map(({ id, payload, runAt, priority }) => ({
      id,
      // JSON drops undefined members. A queue row without a payload would count as damaged.
      data: { job: id, payload: payload ?? null } satisfies QueueData,
      priority: priority ?? operation.priority,
      ...(runAt && { startAfter: runAt.toISOString() }),
      ...(operation.group && { group: { id: operation.group(payload) } }),
    }))
    const taken = await boss.insert(operation.name, jobs, { db: bossOn(trx), returnId: true })
    if (taken?.length !== jobs.length) {
      throw new Error(
        `The queue '${operation.name}' is missing or rejected a job. Restart the API to create missing queues.`,
      )
    }
  }
}
