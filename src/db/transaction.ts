import { setTimeout as delay } from 'node:timers/promises'
import { type RawBuilder, sql, type Transaction } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import type { Database } from './database.ts'
import { errorCode, isContention, isLostConnection, isOutage, sqlstate } from './sqlstate.ts'
import type { Tables } from './tables.ts'

/** A transaction that lost a race, or its connection, runs again so many times. */
const mostRetries = 3
/** What is done by many at once loses so many races. */
const mostRaces = 8
/** How long the fate of a commit is asked after, in milliseconds. */
const askFor = 10_000

/** How the fate of a transaction is found out. */
interface Trace {
  /** `pg_current_xact_id()` as text. */
  id: string
  /** A statement with a row if, and only if, the transaction has committed. */
  witness: RawBuilder<unknown>
}

const traces = new WeakMap<object, Trace>()

/**
 * The instant before which all changes can be read by every statement that begins from now on: whatever transaction has
 * written and is still under way began after it. It is to be read in a statement before the changes are.
 *
 * @param margin earlier by so much: a transaction may date its changes before it has an id
 * @param most of one that takes longer nobody waits for the end
 */
export const oldestTransaction = (margin: RawBuilder<unknown>, most: RawBuilder<unknown>): RawBuilder<Date> => sql`(
  select greatest(min(xact_start) - ${margin}, now() - ${most})
  from pg_stat_activity
  where pid = pg_backend_pid() or backend_xid is not null and datname = current_database()
)`

/** For a statement that returns something anyway: see {@link leaveTrace}. */
export const currentId = sql<string>`pg_current_xact_id()::text`

/** Notes how the fate of a transaction can be found out when the answer to its COMMIT is lost. */
export const leaveTrace = (
  trx: AnyTransaction,
  { id, witness }: { id: string | undefined; witness: Trace['witness'] },
) => {
  if (id !== undefined) traces.set(trx, { id, witness })
}

/** Does what may be done again, and again when it lost a race with others that do the same, as they do at a start. */
export async function untilWon<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let retries = 0; ; retries++) {
    try {
      return await work()
    } catch (error) {
      if (retries === mostRaces || !isContention(error)) throw error
      await delay(Math.random() * 20 * 2 ** retries)
    }
  }
}

export interface TransactOptions {
  /** Of the errors after which a transaction may run again, those after which it does; default all. */
  retryOn?(error: unknown): boolean
}

/**
 * Runs a transaction, and again when it was rolled back for having lost a race or its connection. A connection that is
 * lost during COMMIT leaves open whether that has happened: Postgres is asked, when the work has left a trace. What it
 * resolves to is true once it resolves: after the commit.
 *
 * Source: PostgreSQL manual, "Transaction ID and Snapshot Information Functions", pg_xact_status.
 */
export async function transact<Result>(
  database: Database,
  work: (trx: Transaction<Tables>) => Promise<Result>,
  { retryOn = () => true }: TransactOptions = {},
): Promise<Result> {
  for (let retries = 0; ; retries++) {
    let done: { result: Result; trace: Trace | undefined } | undefined
    try {
      return await database.kysely.transaction().execute(async (trx) => {
        const result = await work(trx)
        done = { result, trace: traces.get(trx) }
        return result
      })
    } catch (error) {
      const isLost = isLostConnection(error)
      if (done && isLost) {
        if (!done.trace) throw error
        if (await hasCommitted(database, done.trace, error)) return done.result
      }
      if (retries === mostRetries || !(isLost || isContention(error)) || !retryOn(error)) throw error
      await delay(Math.random() * 20 * 2 ** retries)
    }
  }
}

/**
 * As long as the transaction may still be in progress nobody can say. After that its own rows decide: after a crash its id
 * may have become another's, of which Postgres says truly that it has committed.
 *
 * @throws unknown the given error, when nobody can say
 */
async function hasCommitted({ kysely }: Database, { id, witness }: Trace, otherwise: unknown): Promise<boolean> {
  for (const until = performance.now() + askFor; performance.now() < until; await delay(100)) {
    try {
      if (!(await isInProgress(kysely, id))) return (await witness.execute(kysely)).rows.length > 0
    } catch (error) {
      if (!isOutage(error)) throw otherwise
    }
  }
  throw otherwise
}

/** Whether the server has not noticed yet that we are gone, or waits for its standby. */
async function isInProgress(kysely: Database['kysely'], id: string): Promise<boolean> {
  try {
    const { rows } = await sql<{ status: string | null }>`select pg_xact_status(${id}::xid8) as status`.execute(kysely)
    return rows[0]?.status === 'in progress'
  } catch (error) {
    // Of the future: it is another server's, or was lost in a crash.
    if (errorCode(error) === sqlstate.invalidParameterValue) return false
    throw error
  }
}
