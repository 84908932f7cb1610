import { setTimeout as delay } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import type { Database } from './database.ts'
import { runWithGenericPlan } from './plan-settings.ts'
import { errorCode, isOutage, sqlstate } from './sqlstate.ts'

/** How to find out whether a transaction has committed when the answer to its COMMIT is lost. */
export interface CommitCheck {
  /** `pg_current_xact_id()` as text; see {@link currentTransactionId}. */
  transactionId: string
  /**
   * A statement that returns a row if the transaction has committed, and no row otherwise. It decides the outcome
   * unless Postgres reports the transaction as aborted or in progress.
   */
  commitProof: RawBuilder<unknown>
  /**
   * What `transact` returns if the transaction has committed. Required if the work itself sends the COMMIT: the
   * connection may then break before the work returns.
   */
  outcome?: { result: unknown }
}

const checks = new WeakMap<object, CommitCheck>()

/**
 * A column with the id of the current transaction. Add it to a statement of the transaction that returns rows anyway.
 */
export const currentTransactionId = sql<string>`pg_current_xact_id()::text`

/**
 * Reads the id of the transaction.
 *
 * @param isAssigned true if the transaction needs an id. By default, Postgres assigns one only when it writes.
 * @returns undefined if the transaction has no id
 */
export async function readTransactionId(trx: AnyTransaction, isAssigned: boolean): Promise<string | undefined> {
  const id = isAssigned ? currentTransactionId : sql<string | null>`pg_current_xact_id_if_assigned()::text`
  const { rows } = await sql<{ id: string | null }>`select ${id} as id`.execute(trx)
  return rows[0]?.id ?? undefined
}

/**
 * Registers how to find out the outcome of a transaction if the answer to its COMMIT is lost. Does nothing when
 * `transactionId` is undefined, which means that the statement that reads the id found no row.
 */
export function registerCommitCheck(
  trx: AnyTransaction,
  { transactionId, ...check }: Omit<CommitCheck, 'transactionId'> & { transactionId: string | undefined },
): void {
  if (transactionId !== undefined) checks.set(trx, { transactionId, ...check })
}

/** Returns the check that was registered for a transaction. */
export const commitCheckOf = (trx: object): CommitCheck | undefined => checks.get(trx)

/** The first pause between two queries, in milliseconds. Each later pause is twice as long, up to `maxPauseMs`. */
const firstPauseMs = 100
const maxPauseMs = 1_000

export interface CommitCheckOptions {
  /** How long to keep querying, in milliseconds, while the transaction is in progress or Postgres is unavailable. */
  timeoutMs: number
  /** Once the signal aborts, no further query is sent. */
  signal?: AbortSignal | undefined
}

/**
 * Returns whether a transaction has committed. Returns undefined when this cannot be found out in time.
 *
 * Waits while the transaction is in progress: the server may not have noticed the broken connection, or may be waiting
 * for its standby. If the transaction was aborted, it has not committed. For every other status, `commitProof` decides,
 * even for "committed": after a crash, the server can assign the same id to another transaction, and the status is then
 * the status of that other transaction.
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
      if (status !== 'in progress') return (await runWithGenericPlan(kysely, commitProof)).rows.length > 0
    } catch (error) {
      if (!isOutage(error)) return undefined
    }
    if (signal?.aborted) return undefined
    await delay(pauseMs, undefined, { signal }).catch(() => {})
  }
  return undefined
}

/** Reads the status of a transaction. Returns `unknown` when this server does not know the id. */
async function readStatus(kysely: Database['kysely'], transactionId: string): Promise<string> {
  try {
    const { rows } = await sql<{ status: string | null }>`
      select pg_xact_status(${transactionId}::xid8) as status`.execute(kysely)
    return rows[0]?.status ?? 'unknown'
  } catch (error) {
    // The id is higher than all ids that this server has assigned. Either another server assigned it, or a crash has
    // reset the counter.
    if (errorCode(error) === sqlstate.invalidParameterValue) return 'unknown'
    throw error
  }
}
