import { type RawBuilder, sql } from 'kysely'
import { errorCode, sqlstate } from './sqlstate.ts'

/** What to do about a row or a key that another transaction has locked: wait for it, or skip it. */
export type LockWait = 'wait' | 'skip'

/** The clause that makes a `select` lock its rows. It stands at the end of the `select`. */
export const rowLock: Readonly<Record<LockWait, RawBuilder<unknown>>> = {
  wait: sql`for update`,
  skip: sql`for update skip locked`,
}

/**
 * Builds an expression that takes an advisory lock until the end of the transaction. The expression is true if this
 * transaction got the lock. With `skip`, it is false if another transaction holds the lock. Take this lock before you
 * insert a unique key. An insert alone always waits for a concurrent insert of the same key, and Postgres has no option
 * to skip that wait.
 *
 * @param hash a bigint expression
 */
export const keyLock = (hash: RawBuilder<unknown>, lockWait: LockWait): RawBuilder<boolean> =>
  lockWait === 'skip' ? sql`pg_try_advisory_xact_lock(${hash})` : sql`pg_advisory_xact_lock(${hash})::text is not null`

/** Builds an expression that limits how long the transaction waits for any lock, in milliseconds. */
export const setLockTimeout = (timeoutMs: number): RawBuilder<unknown> =>
  sql`set_config('lock_timeout', ${String(timeoutMs)}, true)`

/**
 * Runs work that waits for locks.
 *
 * @throws the error that `timeoutError` returns, when the wait exceeds the lock timeout
 */
export async function withLockTimeoutError<Result>(
  work: () => Promise<Result>,
  timeoutError: (cause: unknown) => Error,
): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    throw errorCode(error) === sqlstate.lockNotAvailable ? timeoutError(error) : error
  }
}
