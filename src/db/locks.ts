import { type RawBuilder, sql } from 'kysely'

/** What to do about a row or a key that another transaction has locked: wait for it, or leave it out. */
export type LockWait = 'wait' | 'skip'

/** The end of a `select` that locks its rows. */
export const rowLock: Readonly<Record<LockWait, RawBuilder<unknown>>> = {
  wait: sql`for update`,
  skip: sql`for update skip locked`,
}

/**
 * Takes an advisory lock until the end of the transaction, as an expression: true when the lock was taken, false when it was
 * left out. Insert a unique key under such a lock, because an insert waits for another one of the same key and cannot be told
 * to skip it.
 *
 * @param hash a bigint expression
 */
export const keyLock = (hash: RawBuilder<unknown>, lockWait: LockWait): RawBuilder<boolean> =>
  lockWait === 'skip' ? sql`pg_try_advisory_xact_lock(${hash})` : sql`pg_advisory_xact_lock(${hash})::text is not null`
