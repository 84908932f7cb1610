/** A row of a view whose counts are numbers. Postgres returns `bigint` as text, because it may exceed a number. */
export type Counted<Row, Name extends keyof Row> = Omit<Row, Name> & Record<Name, number>

/** Converts counts to numbers, for programs that read `--json`. */
export const withCounts = <Row, Name extends keyof Row>(rows: readonly Row[], names: readonly Name[]) =>
  rows.map((row) => ({ ...row, ...Object.fromEntries(names.map((name) => [name, Number(row[name])])) })) as Counted<
    Row,
    Name
  >[]
