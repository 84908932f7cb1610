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
   * A statement that returns a row if the transaction has committed, and none if it has not. It decides when Postgres does
   * not know the transaction any more.
   */
  commitProof: RawBuilder<unknown>
}

const checks = new WeakMap<object, CommitCheck>()

/** A column for a statement of the transaction that returns rows anyway. */
export const currentTransactionId = sql<string>`pg_current_xact_id()::text`

/**
 * Registers how the outcome of a transaction can be found out after its COMMIT was lost. Does nothing without an id, that
 * is, when the statement that would have returned it found no row.
 */
export function registerCommitCheck(
  trx: AnyTransaction,
  { transactionId, commitProof }: { transactionId: string | undefined; commitProof: RawBuilder<unknown> },
): void {
  if (transactionId !== undefined) checks.set(trx, { transactionId, commitProof })
}

/** The check that was registered for a transaction. */
export const commitCheckOf = (trx: object): CommitCheck | undefined => checks.get(trx)

/** The pause between two questions, in milliseconds; it doubles from the first value to the second. */
const firstPauseMs = 100
const maxPauseMs = 1_000

export interface CommitCheckOptions {
  /** How long to ask, in milliseconds, while the outcome is open or Postgres is unavailable. */
  timeoutMs: number
  /** Stops asking when it aborts. */
  signal?: AbortSignal | undefined
}

/**
 * Returns whether a transaction has committed; undefined when that cannot be found out in time.
 *
 * While the transaction is in progress, nothing is decided: the server may not have noticed the broken connection, or it
 * waits for its standby. An aborted one has not committed. Everything else needs the proof, because a crash of the server can
 * give the id to another transaction, of which Postgres truly says that it has committed.
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
    // The id lies in the future: another server assigned it, or a crash took it back.
    if (errorCode(error) === sqlstate.invalidParameterValue) return 'unknown'
    throw error
  }
}
