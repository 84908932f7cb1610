import { type Kysely, type QueryResult, type RawBuilder, sql } from 'kysely'
import type { AnyTransaction } from '../operation.ts'
import { commitStatement, pipeline } from './pipeline.ts'
import { neverPrepared } from './prepared-statements.ts'

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
 * Without sequential scans, Postgres 15 to 17 give an enormous cost to the plan for a small table without an index.
 * Then they compile it to machine code, which takes seconds.
 */
const indexScans = { enable_seqscan: 'off', jit: 'off' }

/**
 * Makes Postgres plan each prepared statement once per connection, with index scans. Use it for our own statements,
 * which find their rows by an index at any table size. By default, Postgres may plan a statement at every call, which
 * takes longer than running the statement. Or Postgres may keep a plan that was made for an empty table, and such a
 * plan reads the whole table.
 *
 * Source: PostgreSQL manual, PREPARE, and `plan_cache_mode`.
 */
export const useGenericPlan = localSettings({ plan_cache_mode: 'force_generic_plan', ...indexScans })

/**
 * Makes Postgres plan each statement for its parameters and for the present size of the tables. Use it for pg-boss's
 * own statements: Postgres 15 and 16 read the whole queue with the generic plans of some of them.
 */
export const useCustomPlan = localSettings({ plan_cache_mode: 'force_custom_plan', ...indexScans })

/** Restores the default settings. Use it before statements of handlers in the same transaction. */
export const useDefaultPlan = localSettings({ plan_cache_mode: null, enable_seqscan: null, jit: null })

const planSettings = ['plan_cache_mode', 'enable_seqscan', 'jit'] as const

const execute = (statement: RawBuilder<unknown>) => async (trx: AnyTransaction) => void (await statement.execute(trx))

const copySettings = (from: (name: string) => string, to: (name: string) => string) =>
  execute(
    sql`select ${sql.join(planSettings.map((name) => sql`set_config(${sql.lit(to(name))}, current_setting(${sql.lit(from(name))}), true)`))}`,
  )

const previous = (name: string) => `accepted.previous_${name}`
const rememberPlan = copySettings((name) => name, previous)
const usePreviousPlan = copySettings(previous, (name) => name)

/** Our own Kysely instance, or a transaction, which may belong to an app and have its tables. */
// biome-ignore lint/suspicious/noExplicitAny: the tables of any app
export type QuerySource = Kysely<any>

/**
 * Runs one statement with {@link useGenericPlan}, in one round trip. The statement gets a transaction of its own, or
 * runs in the given transaction, whose settings are the same afterwards.
 */
export async function runWithGenericPlan<Row>(db: QuerySource, statement: RawBuilder<Row>): Promise<QueryResult<Row>> {
  if (db.isTransaction) {
    const [, , result] = await pipeline(db as unknown as AnyTransaction, (trx) => [
      rememberPlan(trx),
      useGenericPlan(trx),
      statement.execute(trx),
      usePreviousPlan(trx),
    ])
    return result
  }
  return db.transaction().execute(async (trx) => {
    const [, result] = await pipeline(trx as unknown as AnyTransaction, (trx) => [
      useGenericPlan(trx),
      statement.execute(trx),
      commitStatement(trx),
    ])
    return result
  })
}

/**
 * Runs one statement, which Postgres plans at each call, for the present size of the tables. Use it for a statement that
 * all workers together run every few seconds: an idle worker then sends one statement, and not a transaction of five.
 */
export const runUnprepared = <Row>(db: QuerySource, statement: RawBuilder<Row>): Promise<QueryResult<Row>> =>
  sql<Row>`${sql.raw(neverPrepared)} ${statement}`.execute(db)
