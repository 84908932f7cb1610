import { type RawBuilder, sql } from 'kysely'

type Pair = readonly [RawBuilder<unknown>, RawBuilder<unknown>]

/**
 * Builds a join condition that is true when the columns have the values. With `enable_seqscan` off, Postgres can run it
 * only as one index lookup per row of the other table, whatever the plan was made for. With `=`, a plan that was made for
 * an empty table may read all rows that agree in the first column, or all rows in the order of the index, and filter
 * them. With a comparison of whole rows, Postgres 15 to 17 read the index from the value to its end.
 *
 * Name the partition, not a partitioned table: for that, Postgres 18 finds no lookup.
 *
 * @param columns the first two columns of an index, in its order; neither is null
 * @param values expressions with a type; the second is a column of the other table
 */
export function isRow(columns: Pair, [first, second]: Pair): RawBuilder<boolean> {
  // A constant would let Postgres look up the first column alone, once for all rows of the other table.
  const value = sql`case when ${second} is null then null else ${first} end`
  return sql`(${columns[0]} = any(array[${value}]) and ${columns[1]} >= ${second} and ${columns[1]} <= ${second})`
}
