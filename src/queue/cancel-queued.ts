import { type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import { queueJob } from './schema.ts'

/**
 * Cancels the queue row of a waiting job, within the transaction.
 *
 * @returns false when a worker holds the job; that worker then cancels the job
 */
export async function cancelQueued(trx: AnyTransaction, operation: string, id: string): Promise<boolean> {
  const { numAffectedRows } = await sql`
    update ${queueJob} set state = 'cancelled', completed_on = now()
    where name = ${operation} and id = ${id} and state < 'active'`.execute(trx)
  if (numAffectedRows === 1n) return true
  const { rows } = await sql`
    select from ${queueJob} where name = ${operation} and id = ${id} and state = 'active'`.execute(trx)
  return rows.length === 0
}

/** An expression: the payload of a job that is in the queue. */
export const payloadInQueue = (operation: string, id: string): RawBuilder<unknown> => sql`(
  select data -> 'payload' from ${queueJob} row where row.name = ${operation} and row.id = ${id}
)`
