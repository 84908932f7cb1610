import { setTimeout as delay } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import type { Database } from './database.ts'
import { errorCode, isOutage, sqlstate } from './sqlstate.ts'

/** How to find out whether a transaction has committed when the answer to its COMMIT is lost. */
export interface CommitCheck {
  /** `pg_current_xact_id()` as text; see {@link currentTransactionId}. */
  transactionId: string
  /**
   * A statement that returns a row if the transaction has committed, and none if it has not. It decides when Postgres
   * no longer knows the transaction.
   */
  commitProof: RawBuilder<unknown>
}

const checks = new WeakMap<object, CommitCheck>()

/** The id of the current transaction. Add this column to a statement of the transaction that returns rows anyway. */
export const currentTransactionId = sql<string>`pg_current_xact_id()::text`

/**
 * Registers how to find out the outcome of a transaction if the answer to its COMMIT is lost. Does nothing when
 * `transactionId` is undefined, because the statement that reads it found no row.
 */
export function registerCommitCheck(
  trx: AnyTransaction,
  { transactionId, commitProof }: { transactionId: string | undefined; commitProof: RawBuilder<unknown> },
): void {
  if (transactionId !== undefined) checks.set(trx, { transactionId, commitProof })
}

/** The check that was registered for a transaction. */
export const commitCheckOf = (trx: object): CommitCheck | undefined => checks.get(trx)

/** The pause between two queries, in milliseconds. It doubles from the first value up to the second. */
const firstPauseMs = 100
const maxPauseMs = 1_000

export interface CommitCheckOptions {
  /** How long to keep querying, in milliseconds, while the transaction is in progress or Postgres is unavailable. */
  timeoutMs: number
  /** Once it aborts, no further query is sent. */
  signal?: AbortSignal | undefined
}

/**
 * Returns whether a transaction has committed; undefined when that cannot be found out in time.
 *
 * Waits while the transaction is in progress: the server may not have noticed the broken connection, or waits for its
 * standby. Aborted means not committed. Any other status needs the proof: after a crash, the server can assign the same
 * id to another transaction, and then "committed" refers to that one.
 *
 * Source: PostgreSQL manual, "Transaction ID and Snapshot Information Functions", pg_xact_status.
 */
export async function hasCommitted(
  { kysely }: Database,
  { transactionId, commitProof }: CommitCheck,
  { timeoutMs, signal }: CommitCheckOptions,
): Promise<boolean | undefined> {
  const deadline = performance.now() + timeoutMs
  for (let pauseMs = firstPauseMs; performance.now() < deadline; pauseMs = Math.min(2 * pauseMs, maxPauseMs)) {
    try {
      const status = await readStatus(kysely, transactionId)
      if (status === 'aborted') return false
      if (status !== 'in progress') return (await commitProof.execute(kysely)).rows.length > 0
    } catch (error) {
      if (!isOutage(error)) return undefined
    }
    if (signal?.aborted) return undefined
    await delay(pauseMs, undefined, { signal }).catch(() => {})
  }
  return undefined
}

/** Returns `unknown` for an id that this server does not know. */
async function readStatus(kysely: Database['kysely'], transactionId: string): Promise<string> {
  try {
    const { rows } = await sql<{ status: string | null }>`
      select pg_xact_status(${transactionId}::xid8) as status`.execute(kysely)
    return rows[0]?.status ?? 'unknown'
  } catch (error) {
    // The id is higher than any that this server has assigned: another server assigned it, or a crash has reset the
    // counter.
    if (errorCode(error) === sqlstate.invalidParameterValue) return 'unknown'
    throw error
  }
}
