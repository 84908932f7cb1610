import { Kysely, PostgresDialect } from 'kysely'
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
  return new Kysely({ dialect: new PostgresDialect({ pool: pool as unknown as pg.Pool }) }) as unknown as AnyTransaction
}
