import { type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import type { Database } from './database.ts'
import { commitStatement, pipeline } from './pipeline.ts'

/**
 * Builds a function that sets parameters of Postgres for the rest of a transaction. Null resets a parameter to its
 * default.
 */
function localSettings(values: Readonly<Record<string, string | null>>) {
  const settings = Object.entries(values).map(([name, value]) => sql`set_config(${sql.lit(name)}, ${value}, true)`)
  const statement = sql`select ${sql.join(settings)}`
  return async (trx: AnyTransaction): Promise<void> => void (await statement.execute(trx))
}

/**
 * Makes Postgres plan each prepared statement once per connection, with index scans. Use it for our own statements,
 * which find their rows by an index at any table size. By default, Postgres may plan a statement at every call, which
 * takes longer than running the statement. Or Postgres may keep a plan that was made for an empty table, and such a
 * plan reads the whole table.
 *
 * Source: PostgreSQL manual, PREPARE, and `plan_cache_mode`.
 */
export const useGenericPlan = localSettings({ plan_cache_mode: 'force_generic_plan', enable_seqscan: 'off' })

/** Restores the default settings. Use it before statements of handlers in the same transaction. */
export const useDefaultPlan = localSettings({ plan_cache_mode: null, enable_seqscan: null })

/** Runs one statement in a transaction of its own with {@link useGenericPlan}, in one round trip. */
export async function runWithGenericPlan({ kysely }: Database, statement: RawBuilder<unknown>): Promise<void> {
  await kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    await pipeline(trx, (trx) => [useGenericPlan(trx), statement.execute(trx), commitStatement(trx)])
  })
}
