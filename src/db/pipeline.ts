import { type Kysely, type KyselyProps, type PostgresDialect, sql, Transaction } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import { earlyCommit } from './client.ts'
import { errorCode, sqlstate } from './sqlstate.ts'
import type { Tables } from './tables.ts'

/**
 * Contains an entry for each Kysely instance whose clients can pipeline. The key is the adapter of the instance. The
 * value contains the arguments for the constructor of a transaction.
 */
const pipelinedAdapters = new WeakMap<object, Omit<KyselyProps, 'executor'>>()

/** Lets {@link pipeline} send statements together in the transactions of this Kysely instance. */
export function enablePipeline(kysely: Kysely<Tables>, dialect: PostgresDialect): void {
  const props = { config: { dialect }, dialect, driver: dialect.createDriver() }
  pipelinedAdapters.set(kysely.getExecutor().adapter, props)
}

/**
 * Runs independent statements of a transaction in one round trip. In a transaction on an app's own connection, the
 * statements run one after another.
 *
 * Postgres runs the statements in the order of the array. Work that does not send its statement immediately, such as
 * work of pg-boss, runs later. When a statement fails, Postgres skips the later statements, and the call rejects with
 * the error of the failed statement.
 *
 * @param start starts the work. It must use the transaction that is passed to it. In the outer transaction, Kysely
 *   would send one statement at a time.
 */
export async function pipeline<Results extends unknown[]>(
  trx: AnyTransaction,
  start: (trx: AnyTransaction) => { [Index in keyof Results]: Promise<Results[Index]> },
): Promise<Results> {
  const executor = trx.getExecutor()
  const props = pipelinedAdapters.get(executor.adapter)
  if (!props) return allOrFirstCause(start(trx))
  // Kysely's own transaction sends a statement only after Postgres has answered the previous statement.
  return executor.provideConnection((connection) => {
    const unqueued = executor.withConnectionProvider({ provideConnection: (consumer) => consumer(connection) })
    return allOrFirstCause(start(new Transaction({ ...props, executor: unqueued })))
  })
}

/**
 * Waits for all statements. Rejects with the error of the failed statement, not with the error of a skipped statement.
 */
async function allOrFirstCause<Results extends unknown[]>(
  started: {
    [Index in keyof Results]: Promise<Results[Index]>
  },
): Promise<Results> {
  const results = await Promise.allSettled(started)
  const reasons = results.filter((one) => one.status === 'rejected').map(({ reason }) => reason)
  const cause = reasons.find((reason) => errorCode(reason) !== sqlstate.inFailedSqlTransaction)
  if (reasons.length > 0) throw cause ?? reasons[0]
  return results.map((one) => (one as PromiseFulfilledResult<unknown>).value) as Results
}

/**
 * Commits the transaction. As the last statement of a {@link pipeline}, it needs no round trip of its own. The text
 * tells the client that Kysely will send another COMMIT or a ROLLBACK.
 */
export const commitStatement = async (trx: AnyTransaction): Promise<void> =>
  void (await sql`${sql.raw(earlyCommit)}`.execute(trx))
