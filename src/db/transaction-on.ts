import { Kysely, PostgresDialect, Transaction } from 'kysely'
import type pg from 'pg'
import type { AnyTransaction } from '../operation.ts'

/**
 * Makes a Kysely transaction from a `pg` client that has an open transaction. For apps that do not use Kysely.
 *
 * @throws TypeError when the client is not in a transaction, because each statement would then commit on its own
 */
export function transactionOn(client: pg.ClientBase): AnyTransaction {
  if (client.getTransactionStatus() !== 'T') {
    throw new TypeError('The client is not in a transaction: send BEGIN first, and COMMIT afterwards')
  }
  const connection = { query: client.query.bind(client), release: () => {} }
  const pool = { connect: async () => connection, end: async () => {} }
  const dialect = new PostgresDialect({ pool: pool as unknown as pg.Pool })
  // An instance that is not marked as a transaction would begin and commit transactions of its own on the client.
  return new Transaction({
    ...{ config: { dialect }, dialect, driver: dialect.createDriver() },
    executor: new Kysely({ dialect }).getExecutor(),
  })
}

/** @throws TypeError when the value is neither a Kysely transaction nor a `pg` client with an open transaction */
export function asTransaction(trx: AnyTransaction | pg.ClientBase): AnyTransaction {
  if ('getTransactionStatus' in trx) return transactionOn(trx)
  if (trx.isTransaction) return trx
  throw new TypeError('enqueue needs a transaction: db.transaction().execute(async (trx) => …)')
}
