import { type RawBuilder, sql } from 'kysely'

/** What to do about a row or a key that another transaction has locked: wait for it, or skip it. */
export type LockWait = 'wait' | 'skip'

/** The clause at the end of a `select` that locks its rows. */
export const rowLock: Readonly<Record<LockWait, RawBuilder<unknown>>> = {
  wait: sql`for update`,
  skip: sql`for update skip locked`,
}

/**
 * Builds an expression that takes an advisory lock until the end of the transaction. It is true if this
 * transaction got the lock. With `skip`, it is false if another transaction holds it. Take such a lock before you insert
 * a unique key: an insert always waits for another insert of the same key, and has no option to skip it.
 *
 * @param hash a bigint expression
 */
export const keyLock = (hash: RawBuilder<unknown>, lockWait: LockWait): RawBuilder<boolean> =>
  lockWait === 'skip' ? sql`pg_try_advisory_xact_lock(${hash})` : sql`pg_advisory_xact_lock(${hash})::text is not null`
