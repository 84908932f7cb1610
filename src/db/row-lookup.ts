import { type RawBuilder, sql } from 'kysely'

/**
 * Builds a join condition that is true when the columns have the values. With `enable_seqscan` off, Postgres can run it
 * only as one index lookup per row of the other table. With `=`, a plan that was made for an empty table may read all
 * rows that agree in the first column and filter them. Postgres 15 and 16 also do so for `name = … and id = any(…)`. Name
 * the partition, not a partitioned table: for that, Postgres 18 finds no lookup.
 *
 * @param columns the leading columns of an index, in its order; none of them is null
 * @param values columns of the other table, or parameters with a type
 */
export const isRow = (columns: readonly RawBuilder<unknown>[], values: readonly RawBuilder<unknown>[]) => {
  const row = sql`(${sql.join(columns)})`
  const value = sql`(${sql.join(values)})`
  return sql<boolean>`(${row} >= ${value} and ${row} <= ${value})`
}
