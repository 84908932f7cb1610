import { setTimeout as delay } from 'node:timers/promises'
import { sql, type Transaction } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import type { Database } from './database.ts'
import { isContention, isLostConnection, isOutage } from './sqlstate.ts'
import type { Tables } from './tables.ts'

/** A transaction that lost a race, or its connection, runs again so many times. */
const mostRetries = 3
/** How long the fate of a commit is asked after, in milliseconds. */
const askFor = 10_000

const ids = new WeakMap<object, string>()

/** `pg_current_xact_id()` as text, for a statement that returns it anyway: see {@link rememberId}. */
export const currentId = sql<string>`pg_current_xact_id()::text`

/** Notes the id of a transaction, so that its fate can be asked after when the answer to its COMMIT is lost. */
export const rememberId = (trx: AnyTransaction, id: string | undefined): void => {
  if (id !== undefined) ids.set(trx, id)
}

/**
 * Runs a transaction, and again when it was rolled back for having lost a race or its connection. A connection that is
 * lost during COMMIT leaves open whether that has happened: Postgres is asked, by the id that the work remembered. What
 * it resolves to is true once it resolves: after the commit.
 *
 * Source: PostgreSQL manual, "Transaction ID and Snapshot Information Functions", pg_xact_status.
 */
export async function transact<Result>(
  database: Database,
  work: (trx: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  for (let retries = 0; ; retries++) {
    let done: { result: Result; id: string | undefined } | undefined
    try {
      return await database.kysely.transaction().execute(async (trx) => {
        const result = await work(trx)
        done = { result, id: ids.get(trx) }
        return result
      })
    } catch (error) {
      const isLost = isLostConnection(error)
      if (done && isLost) {
        if (done.id === undefined) throw error
        if (await hasCommitted(database, done.id, error)) return done.result
      }
      if (retries === mostRetries || !(isLost || isContention(error))) throw error
      await delay(Math.random() * 20 * 2 ** retries)
    }
  }
}

/** @throws unknown the given error, when nobody can say */
async function hasCommitted({ kysely }: Database, id: string, otherwise: unknown): Promise<boolean> {
  for (const until = performance.now() + askFor; performance.now() < until; await delay(100)) {
    try {
      const { rows } = await sql<{ status: string | null }>`select pg_xact_status(${id}::xid8) as status`.execute(
        kysely,
      )
      // In progress: the server has not noticed yet that we are gone, or waits for its standby.
      if (rows[0]?.status !== 'in progress') return decide(rows[0]?.status, otherwise)
    } catch (error) {
      if (!isOutage(error)) throw otherwise
    }
  }
  throw otherwise
}

/** Postgres forgets old transactions, and never knew those of another server. */
function decide(status: string | null | undefined, otherwise: unknown): boolean {
  if (status === 'committed') return true
  if (status === 'aborted') return false
  throw otherwise
}
