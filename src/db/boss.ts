import { sql } from 'kysely'
import type pg from 'pg'
import { type Db, fromKysely, getConstructionPlans, PgBoss, type Queue } from 'pg-boss'
import { type AnyTransaction, keepSeconds, type Operation } from '../operation.ts'
import type { Database } from './database.ts'
import { untilWon } from './transaction.ts'

/** The schema pg-boss lives in. */
export const bossSchema = 'pgboss'

/** What `pgboss.job.data` holds: the job's id beside the payload, so that a row re-created under another id names it. */
export interface QueueData {
  job: string
  payload: unknown
}

export type { PgBoss } from 'pg-boss'

export interface BossOptions {
  /** Looks after the queues: one role of process only, the worker. */
  supervise: boolean
  onError: (error: Error) => void
}

/**
 * So long may settling take after a perform that used up its whole timeout, in seconds. A dead worker's jobs are taken
 * back long before; this is for one that lives and cannot end its job. An hour, so that an outage of Postgres costs no
 * attempt.
 */
const settleGraceSeconds = 3600

/** A row of the queue that has ended is of no use to anybody: the status is in accepted.job. In seconds. */
const deleteEndedAfterSeconds = 3600

/**
 * Starts pg-boss on our pool, so that its statements are prepared like ours and nothing opens a second pool.
 *
 * @throws Error when the schema is missing or not of exactly this version: `accepted migrate` comes first
 */
export async function startBoss(database: Database, options: BossOptions): Promise<PgBoss> {
  const boss = new PgBoss({
    db: { executeSql: (text, values) => database.pool.query(text, values) },
    schema: bossSchema,
    migrate: false,
    schedule: false,
    // Deletes old rows; the jobs of silent workers we take back ourselves.
    supervise: options.supervise,
    superviseIntervalSeconds: 15,
    // What it counts is the backlog of the metrics.
    monitorIntervalSeconds: 15,
    maintenanceIntervalSeconds: 300,
    // For jobs that wait for others, of which we have none.
    flowIntervalSeconds: 60,
  })
  boss.on('error', options.onError)
  return boss.start()
}

/** Installs pg-boss's schema from its published plans, or brings it up to date. Call it under a lock. */
export async function migrateBoss(client: pg.Client): Promise<void> {
  const { rows } = await client.query("select to_regclass($1 || '.version') is not null as installed", [bossSchema])
  if (!rows[0].installed) {
    // The plans bring their own BEGIN and COMMIT.
    await client.query(getConstructionPlans(bossSchema))
    return
  }
  const boss = new PgBoss({
    db: { executeSql: (text, values) => client.query(text, values) },
    schema: bossSchema,
    migrate: true,
    schedule: false,
    supervise: false,
  })
  await boss.start()
  await boss.stop()
}

function queueOptions(operation: Operation): Omit<Queue, 'name' | 'policy'> {
  const { retry } = operation
  return {
    retryLimit: retry.limit,
    retryDelay: retry.delaySeconds,
    retryBackoff: retry.backoff,
    ...(retry.backoff && { retryDelayMax: retry.maxDelaySeconds }),
    expireInSeconds: operation.timeoutSeconds + settleGraceSeconds,
    // pg-boss deletes what has waited longer, without a word; our own keep time must end first.
    retentionSeconds: 2 * keepSeconds,
    deleteAfterSeconds: deleteEndedAfterSeconds,
  }
}

/**
 * Makes the queues of the operations, or brings their options up to date, and warms pg-boss's queue cache: a cold
 * look-up inside a transaction would take a second connection from a pool that may have none left.
 */
export async function prepareQueues(boss: PgBoss, operations: Iterable<Operation>): Promise<void> {
  for (const operation of operations) {
    await untilWon(() => prepareQueue(boss, operation))
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

/**
 * Takes a job that waits out of its queue, within the transaction.
 *
 * @returns false when a worker holds it: then it is the worker's to end
 */
export async function cancelWaiting(trx: AnyTransaction, operation: string, id: string): Promise<boolean> {
  const { numAffectedRows } = await sql`
    update pgboss.job set state = 'cancelled', completed_on = now()
    where name = ${operation} and id = ${id} and state < 'active'`.execute(trx)
  if (numAffectedRows === 1n) return true
  const { rows } = await sql`
    select from pgboss.job where name = ${operation} and id = ${id} and state = 'active'`.execute(trx)
  return rows.length === 0
}

/** pg-boss's way into somebody's transaction. */
export const bossOn = (trx: AnyTransaction): Db => fromKysely(trx)

/** One job for the queue. */
export interface QueueEntry {
  id: string
  operation: Operation
  payload: unknown
  runAt?: Date | undefined
  priority?: number | undefined
}

/**
 * Puts jobs into their queues within the transaction.
 *
 * @throws Error when the queue did not take every one: pg-boss answers a missing queue or a conflicting id with fewer
 *   ids and no error, and the commit would succeed
 */
export async function enqueueAll(boss: PgBoss, trx: AnyTransaction, entries: readonly QueueEntry[]): Promise<void> {
  for (const [operation, ofOperation] of Map.groupBy(entries, (entry) => entry.operation)) {
    const jobs = ofOperation.map(({ id, payload, runAt, priority }) => ({
      id,
      data: { job: id, payload } satisfies QueueData,
      priority: priority ?? operation.priority,
      ...(runAt && { startAfter: runAt.toISOString() }),
      ...(operation.group && { group: { id: operation.group(payload) } }),
    }))
    const taken = await boss.insert(operation.name, jobs, { db: bossOn(trx), returnId: true })
    if (taken?.length !== jobs.length) {
      throw new Error(`The queue '${operation.name}' is missing or refused a job: run \`accepted migrate\``)
    }
  }
}
