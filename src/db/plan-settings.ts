import { type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import type { Database } from './database.ts'
import { commit, pipeline } from './pipeline.ts'

/** Builds a function that sets parameters of Postgres for the rest of a transaction; null resets one to its default. */
function localSettings(values: Readonly<Record<string, string | null>>) {
  const settings = Object.entries(values).map(([name, value]) => sql`set_config(${sql.lit(name)}, ${value}, true)`)
  const statement = sql`select ${sql.join(settings)}`
  return async (trx: AnyTransaction): Promise<void> => void (await statement.execute(trx))
}

/**
 * Makes Postgres plan each prepared statement once per connection, with index scans. For our own statements, which find
 * their rows by an index at any table size. By default Postgres either plans a statement for every call, which takes
 * longer than running it, or keeps a plan that was made for an empty table and reads the whole table.
 *
 * Source: PostgreSQL manual, PREPARE, and `plan_cache_mode`.
 */
export const useGenericPlan = localSettings({ plan_cache_mode: 'force_generic_plan', enable_seqscan: 'off' })

/** Restores the defaults, for statements of handlers in the same transaction. */
export const useDefaultPlan = localSettings({ plan_cache_mode: null, enable_seqscan: null })

/** Runs one statement in a transaction of its own with {@link useGenericPlan}, in one round trip. */
export async function runWithGenericPlan({ kysely }: Database, statement: RawBuilder<unknown>): Promise<void> {
  await kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    await pipeline(trx, (trx) => [useGenericPlan(trx), statement.execute(trx), commit(trx)])
  })
}
