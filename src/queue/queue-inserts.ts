import type { PgBoss } from 'pg-boss'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { bossOn, type QueueData } from './boss.ts'

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

/** A statement of pg-boss that inserts jobs into one queue. */
export interface QueueInsert {
  queue: string
  text: string
  values: unknown[]
  /** The number of jobs. */
  count: number
}

/**
 * Lets pg-boss make the statements that enqueue jobs, one for each operation, and sends none of them. So the caller
 * decides with which other statements they share a round trip.
 *
 * @throws Error when a queue is missing
 */
export async function prepareInserts(boss: PgBoss, entries: readonly QueueEntry[]): Promise<QueueInsert[]> {
  const byOperation = Map.groupBy(entries, (entry) => entry.operation)
  return Promise.all(
    [...byOperation].map(([operation, ofOperation]) => prepareQueueInsert(boss, operation, ofOperation)),
  )
}

async function prepareQueueInsert(
  boss: PgBoss,
  operation: Operation,
  entries: readonly QueueEntry[],
): Promise<QueueInsert> {
  const jobs = entries.map(({ id, payload, principal, runAt, priority, groupId, limitKey }) => ({
    id,
    // JSON drops undefined members. A queue row without a payload would count as damaged.
    data: { job: id, payload: payload ?? null } satisfies QueueData,
    priority: priority ?? operation.priority,
    // pg-boss only stores this key: it has no effect in queues of the policy `standard`. See accepted_turn_idx.
    singletonKey: limitKey ?? principal,
    ...(runAt && { startAfter: runAt.toISOString() }),
    ...(groupId !== undefined && { group: { id: groupId } }),
  }))
  const sent: { text: string; values: unknown[] }[] = []
  const db = {
    async executeSql(text: string, values: unknown[] = []) {
      sent.push({ text, values })
      return { rows: [] }
    },
  }
  await boss.insert(operation.name, jobs, { db, returnId: true })
  const [statement, ...more] = sent
  if (!statement || more.length > 0) throw new Error(`pg-boss sent ${sent.length} statements to enqueue jobs, not one`)
  return { queue: operation.name, ...statement, count: jobs.length }
}

/**
 * Enqueues the jobs of a statement of pg-boss.
 *
 * @throws Error when pg-boss did not insert every job. For a missing queue or a duplicate id, it throws no error itself.
 */
export async function runInsert(trx: AnyTransaction, { queue, text, values, count }: QueueInsert): Promise<void> {
  const { rows } = await bossOn(trx).executeSql(
    `with inserted as (${text}) select count(*)::integer as inserted from inserted`,
    values,
  )
  if (rows[0]?.inserted !== count) throw missingQueue(queue)
}

/**
 * Like {@link runInsert}, for a statement that shares a round trip with a COMMIT. If a job was not inserted, the
 * statement itself fails. Postgres then skips the COMMIT.
 */
export async function runInsertBeforeCommit(
  trx: AnyTransaction,
  { queue, text, values, count }: QueueInsert,
): Promise<void> {
  const checked = `with inserted as (${text}) select 1 / (count(*) = $${values.length + 1})::integer from inserted`
  await bossOn(trx)
    .executeSql(checked, [...values, count])
    .catch((error) => {
      throw errorCode(error) === sqlstate.divisionByZero ? missingQueue(queue) : error
    })
}

/** Creates the error for a queue that did not take all jobs. */
export const missingQueue = (name: string): Error =>
  new Error(`The queue '${name}' is missing or rejected a job. Restart the API to create missing queues.`)
