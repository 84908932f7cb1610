import { type Kysely, type KyselyProps, type PostgresDialect, sql, Transaction } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import { errorCode, sqlstate } from './sqlstate.ts'
import type { Tables } from './tables.ts'

/** The constructor arguments of a transaction, for each Kysely whose clients can pipeline. The key is its adapter. */
const pipelinedAdapters = new WeakMap<object, Omit<KyselyProps, 'executor'>>()

/** Lets {@link pipeline} send statements together in the transactions of this Kysely. */
export function enablePipeline(kysely: Kysely<Tables>, dialect: PostgresDialect): void {
  const props = { config: { dialect }, dialect, driver: dialect.createDriver() }
  pipelinedAdapters.set(kysely.getExecutor().adapter, props)
}

/**
 * Runs independent statements of a transaction in one round trip. In a transaction on an app's own connection they run
 * one after another.
 *
 * Postgres runs them in the order of the array; work that does not send its statement immediately, such as pg-boss's,
 * comes later. When one fails, those behind it are skipped and the call rejects with its error.
 *
 * @param start starts the work in the transaction that is passed to it; in the outer transaction Kysely would send one
 *   statement at a time
 */
export async function pipeline<Results extends unknown[]>(
  trx: AnyTransaction,
  start: (trx: AnyTransaction) => { [Index in keyof Results]: Promise<Results[Index]> },
): Promise<Results> {
  const executor = trx.getExecutor()
  const props = pipelinedAdapters.get(executor.adapter)
  if (!props) return allOrFirstCause(start(trx))
  // Kysely's own transaction sends a statement only after the one before it was answered.
  return executor.provideConnection((connection) => {
    const unqueued = executor.withConnectionProvider({ provideConnection: (consumer) => consumer(connection) })
    return allOrFirstCause(start(new Transaction({ ...props, executor: unqueued })))
  })
}

/** Waits for all. Rejects with the error of the statement that failed, not with that of a skipped one. */
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

/** Commits the transaction. As the last statement of a {@link pipeline} it costs no round trip of its own. */
export const commit = async (trx: AnyTransaction): Promise<void> => void (await sql`commit`.execute(trx))
