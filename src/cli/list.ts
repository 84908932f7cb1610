import type { Database } from '../db/database.ts'
import type { OutputOptions } from './output-options.ts'
import { poll } from './poll.ts'
import { type Column, formatCell, formatTable, type Terminal } from './table.ts'
import { withDatabase } from './with-database.ts'

/** A list that a command prints. */
export interface List<Row> {
  columns: readonly Column<Row>[]
  read(db: Database['kysely']): Promise<readonly Row[]>
  /** What to print after the rows that were read last, on standard error. */
  note?(): string | undefined
  /** What to print for people if there are no rows. */
  whenEmpty: string | ((db: Database['kysely']) => Promise<string>)
  /** Identifies a row. Default: its first cell. */
  key?(row: Row): string
  /** Whether the list shows only the newest rows. Then a row that is no longer in the list still exists. */
  isPage?: boolean
}

export interface ListOptions extends OutputOptions {
  watch?: boolean
}

const watchIntervalMs = 1_000
const defaultColumns = 80

/** Returns the terminal to which the standard output leads; undefined for a pipe or a file. */
export const currentTerminal = (): Terminal | undefined =>
  process.stdout.isTTY ? { columns: process.stdout.columns || defaultColumns, now: new Date() } : undefined

/** Prints a list as a table, or with `json` as an array. With `watch`, prints its changes until the process ends. */
export function printList<Row>(list: List<Row>, { json = false, watch = false }: ListOptions): Promise<void> {
  return withDatabase(async (db) => {
    if (watch) return watchList(list, db, json)
    const rows = await list.read(db)
    console.log(json ? JSON.stringify(rows) : await formatList(list, rows, db))
    const note = list.note?.()
    if (note) console.error(note)
  })
}

async function formatList<Row>(
  { columns, whenEmpty }: List<Row>,
  rows: readonly Row[],
  db: Database['kysely'],
): Promise<string> {
  if (rows.length > 0) return formatTable(columns, rows, currentTerminal()).join('\n')
  return typeof whenEmpty === 'string' ? whenEmpty : whenEmpty(db)
}

async function watchList<Row>(list: List<Row>, db: Database['kysely'], json: boolean): Promise<void> {
  const isOnTerminal = process.stdout.isTTY && !json
  if (isOnTerminal) process.stdout.write(clearTerminal)
  const showChanges = json ? showAsJson(list) : showAsLines(list)
  for await (const rows of poll(() => list.read(db), watchIntervalMs)) {
    if (isOnTerminal) redraw(await formatList(list, rows, db))
    else showChanges(rows)
  }
}

const clearTerminal = '\u001b[2J'

/** Replaces the content of the terminal. Lines below its end are left out. */
function redraw(text: string): void {
  const lines = text.split('\n')
  const shown = lines.slice(0, (process.stdout.rows || lines.length + 1) - 1)
  process.stdout.write(`\u001b[H${shown.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`)
}

/** Returns a function that prints a line of JSON for each row that has changed. */
function showAsJson<Row>(list: List<Row>): (rows: readonly Row[]) => void {
  const findChanges = createChangeFinder(list)
  return (rows) => {
    const { changed, gone } = findChanges(rows)
    for (const row of [...changed, ...gone.map((row) => ({ ...row, gone: true }))]) console.log(JSON.stringify(row))
  }
}

/** Returns a function that prints a line for each row that has changed. Before the first row, it prints the headings. */
function showAsLines<Row>(list: List<Row>): (rows: readonly Row[]) => void {
  const findChanges = createChangeFinder(list)
  let hasHeadings = false
  return (rows) => {
    const { changed, gone } = findChanges(rows)
    const [headings, ...lines] = formatTable(list.columns, rows)
    if (!hasHeadings && rows.length > 0) console.log(headings)
    hasHeadings ||= rows.length > 0
    for (const [index, row] of rows.entries()) if (changed.has(row)) console.log(lines[index])
    for (const row of gone) console.log(`${keyOf(list, row)}  gone`)
  }
}

const keyOf = <Row>({ columns, key }: List<Row>, row: Row): string => key?.(row) ?? formatCell(columns[0]?.cell(row))

/**
 * Returns a function that finds the rows that are new or have changed since its last call, and those that are gone. A
 * row has changed if one of its cells has.
 */
function createChangeFinder<Row>(list: List<Row>): (rows: readonly Row[]) => { changed: Set<Row>; gone: Row[] } {
  const compared = list.columns.filter(({ isVolatile }) => !isVolatile)
  let previous = new Map<string, { row: Row; text: string }>()
  return (rows) => {
    const current = new Map(
      rows.map((row) => [
        keyOf(list, row),
        { row, text: compared.map(({ cell }) => formatCell(cell(row))).join('\0') },
      ]),
    )
    const changed = [...current].filter(([key, { text }]) => previous.get(key)?.text !== text).map(([, { row }]) => row)
    const gone = list.isPage ? [] : [...previous].filter(([key]) => !current.has(key)).map(([, { row }]) => row)
    previous = current
    return { changed: new Set(changed), gone }
  }
}
