import { Kysely, PostgresDialect, sql, Transaction } from 'kysely'
import type pg from 'pg'
import type { AnyTransaction } from '../operation.ts'

/** A transaction of another library, through one of the functions of `accepted/adapters`. */
export interface AdaptedTransaction {
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  executeSql(text: string, values?: unknown[]): Promise<{ rows: any[] }>
}

/** A transaction of the app: of Kysely, of `pg` after BEGIN, or of another library through an adapter. */
export type OwnTransaction = AnyTransaction | pg.ClientBase | AdaptedTransaction

/** Makes a Kysely transaction that sends all statements through one connection. */
function transactionOver(connection: Pick<pg.ClientBase, 'query'>): AnyTransaction {
  const pool = { connect: async () => ({ query: connection.query, release: () => {} }), end: async () => {} }
  const dialect = new PostgresDialect({ pool: pool as unknown as pg.Pool })
  // An instance that is not marked as a transaction would begin and commit transactions of its own on the client.
  return new Transaction({
    ...{ config: { dialect }, dialect, driver: dialect.createDriver() },
    executor: new Kysely({ dialect }).getExecutor(),
  })
}

/**
 * Makes a Kysely transaction from a `pg` client that has an open transaction. For apps that do not use Kysely.
 *
 * @throws TypeError when the client is not in a transaction, because each statement would then commit on its own
 */
export function transactionOn(client: pg.ClientBase): AnyTransaction {
  if (client.getTransactionStatus() !== 'T') {
    throw new TypeError('The client is not in a transaction: send BEGIN first, and COMMIT afterwards')
  }
  return transactionOver({ query: client.query.bind(client) })
}

/** Makes a Kysely transaction from an adapted one. Sends one statement at a time, because Prisma requires it. */
async function transactionOf(adapted: AdaptedTransaction): Promise<AnyTransaction> {
  let last: Promise<unknown> = Promise.resolve()
  const query = (text: string, values: readonly unknown[]) => {
    const answer = last.then(() => adapted.executeSql(text, [...values]))
    last = answer.catch(() => {})
    return answer.then(({ rows }) => ({ rows, rowCount: rows.length, command: 'SELECT' }))
  }
  const trx = transactionOver({ query: query as unknown as pg.ClientBase['query'] })
  await assertInTransaction(trx)
  return trx
}

/**
 * Checks that statements share a transaction. The adapters also take the client of a library itself, which commits each
 * statement on its own.
 */
async function assertInTransaction(trx: AnyTransaction): Promise<void> {
  await sql`select set_config('accepted.in_transaction', 'yes', true)`.execute(trx)
  const { rows } = await sql<{ setting: string | null }>`
    select current_setting('accepted.in_transaction', true) as setting`.execute(trx)
  if (rows[0]?.setting !== 'yes') {
    throw new TypeError(
      'The adapter got a client that is not in a transaction: pass it the transaction of your library',
    )
  }
}

/**
 * @throws TypeError when the value is no transaction of Kysely, no `pg` client with an open transaction, and not made
 *   from a transaction by an adapter
 */
export async function asTransaction(trx: OwnTransaction): Promise<AnyTransaction> {
  if (typeof trx === 'object' && trx !== null) {
    if ('executeSql' in trx) return transactionOf(trx)
    if ('getTransactionStatus' in trx) return transactionOn(trx)
    if (trx.isTransaction) return trx
  }
  throw new TypeError(
    'enqueue needs a transaction: of Kysely, db.transaction().execute(async (trx) => …), a pg client after BEGIN, or ' +
      'the transaction of another library through a function of accepted/adapters',
  )
}
