import { setTimeout as delay } from 'node:timers/promises'
import type { Transaction } from 'kysely'
import type { Database } from './database.ts'
import { isContention } from './sqlstate.ts'
import type { Tables } from './tables.ts'

/** A transaction that lost a race runs again so many times. */
const mostRetries = 3

/**
 * Runs a transaction, and again when it lost a race and was rolled back. What it resolves to is true once it resolves:
 * after the commit.
 */
export async function transact<Result>(
  { kysely }: Database,
  work: (trx: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  for (let retries = 0; ; retries++) {
    try {
      return await kysely.transaction().execute(work)
    } catch (error) {
      if (retries === mostRetries || !isContention(error)) throw error
      await delay(Math.random() * 20 * 2 ** retries)
    }
  }
}
