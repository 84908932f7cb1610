import type { Transaction } from 'kysely'
import { forceTwoPhase } from './citus.ts'
import { commitCheckOf, hasCommitted } from './commit-check.ts'
import type { Database } from './database.ts'
import { isLostConnection } from './sqlstate.ts'
import type { Tables } from './tables.ts'
import { type Retries, type RetryPolicy, withTransactionRetry } from './transaction-retry.ts'

export interface TransactionPolicy extends RetryPolicy {
  /** How long to ask Postgres for the outcome of a lost COMMIT, in milliseconds. Default 10,000. */
  commitCheckTimeoutMs?: number
  /**
   * Whether the work fails when it has already been done. If true, the work is retried even when the outcome of the
   * COMMIT is unknown. Default false: an unknown outcome is an error.
   */
  isFenced?: boolean
}

/**
 * The policy for the transaction of a request. It allows few retries, because the client is waiting and can retry after
 * a 503.
 */
export const requestPolicy: TransactionPolicy = { maxRetries: { contention: 3, 'lost-connection': 3 } }

/** Thrown when the outcome of a lost COMMIT is unknown. The work must then not run again. */
class UnknownCommit extends Error {
  override name = 'UnknownCommit'
}

/**
 * Runs a transaction, and retries it after a rollback as the policy allows. When the connection breaks during COMMIT, or
 * during statements that were sent with it, this function asks Postgres whether the transaction has committed (see
 * {@link registerCommitCheck}). Resolves only after the commit.
 *
 * @throws the error of the last run. When the outcome of the COMMIT is unknown, this is the error of the lost
 *   connection.
 */
export async function transact<Result>(
  database: Database,
  work: (trx: Transaction<Tables>, retries: Retries) => Promise<Result>,
  policy: TransactionPolicy = requestPolicy,
): Promise<Result> {
  const { commitCheckTimeoutMs = 10_000, isFenced = false, signal } = policy
  const runOnce = async (retries: Retries) => {
    let given: Transaction<Tables> | undefined
    let outcome: { result: Result } | undefined
    try {
      return await database.kysely.transaction().execute(async (trx) => {
        given = trx
        await forceTwoPhase(database, trx)
        const result = await work(trx, retries)
        outcome = { result }
        return result
      })
    } catch (error) {
      const check = given && commitCheckOf(given)
      outcome ??= check?.outcome as typeof outcome
      if (!outcome || !isLostConnection(error)) throw error
      const isCommitted = check && (await hasCommitted(database, check, { timeoutMs: commitCheckTimeoutMs, signal }))
      if (isCommitted) return outcome.result
      if (isCommitted === undefined && !isFenced) throw new UnknownCommit('', { cause: error })
      throw error
    }
  }
  try {
    return await withTransactionRetry(runOnce, {
      ...policy,
      isRetryable: (error) => !(error instanceof UnknownCommit) && (policy.isRetryable?.(error) ?? true),
    })
  } catch (error) {
    throw error instanceof UnknownCommit ? error.cause : error
  }
}
