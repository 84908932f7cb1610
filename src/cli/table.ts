import { styleText } from 'node:util'
import stringWidth from 'string-width'
import { printable } from '../primitives/printable.ts'
import { formatRelative } from './relative-time.ts'

export type Style = Parameters<typeof styleText>[0]

/** A value in a table. Null and undefined are shown as an empty text. */
export type Cell = string | number | Date | null | undefined

export interface Column<Row> {
  heading: string
  cell(row: Row): Cell
  /**
   * What happens to the column on a terminal that is too narrow. A column that was cut is left out if that does not
   * suffice. By default a column is always shown completely.
   */
  whenNarrow?: 'cut' | 'omit' | 'omit-first'
  /**
   * The width that a column with `cut` keeps, if its texts need it, as long as other columns can be left out instead.
   * Default: 8.
   */
  room?: number
  /** Whether the cell changes while nothing happens. With `--watch`, such a change is not reported. */
  isVolatile?: boolean
  /** The style of a cell on a terminal. */
  style?(row: Row): Style | undefined
}

/** What a table is formatted for, if it is a terminal. */
export interface Terminal {
  /** Width in characters. */
  columns: number
  now: Date
}

const gap = '  '
/** The least width to which a column is cut, unless its heading is longer, or all its texts are shorter. */
const minCutWidth = 8

/**
 * Formats rows as aligned columns with headings, one line for each row.
 *
 * For a terminal, times are relative, and the lines fit its width if possible: columns that may be omitted are left out,
 * the last one first, and the widest columns that may be cut are cut, or left out at last. Otherwise all values are complete, times are in
 * ISO 8601, and nothing has a style.
 */
export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[], terminal?: Terminal): string[] {
  const texts = rows.map((row) => columns.map(({ cell }) => formatCell(cell(row), terminal)))
  const headings = columns.map(({ heading }) => heading)
  const natural = columns.map((_, index) =>
    [headings, ...texts].reduce((width, line) => Math.max(width, stringWidth(line[index] as string)), 0),
  )
  const widths = terminal ? fit(columns, natural, terminal.columns) : natural
  const formatLine = (line: readonly string[], styleOf: (column: Column<Row>) => Style | undefined) =>
    columns
      .flatMap((column, index) => {
        const width = widths[index] as number
        if (width === 0) return []
        const text = cut(line[index] as string, width)
        const style = terminal && text !== '' ? styleOf(column) : undefined
        return [(style ? styleText(style, text) : text) + ' '.repeat(Math.max(0, width - stringWidth(text)))]
      })
      .join(gap)
      .trimEnd()
  return [
    formatLine(headings, () => 'bold'),
    ...rows.map((row, index) => formatLine(texts[index] as string[], ({ style }) => style?.(row))),
  ]
}

/** Formats a value without anything that could control the terminal. */
export function formatCell(value: Cell, terminal?: Terminal): string {
  if (value instanceof Date) return terminal ? formatRelative(value, terminal.now) : value.toISOString()
  return printable(String(value ?? ''))
}

/** Returns the widths of the columns for a terminal. A column that is left out has the width 0. */
function fit<Row>(columns: readonly Column<Row>[], natural: readonly number[], available: number): number[] {
  const leastOf = (index: number, room = minCutWidth) => {
    const { heading, whenNarrow } = columns[index] as Column<Row>
    const width = natural[index] as number
    return whenNarrow === 'cut' ? Math.min(width, Math.max(room, heading.length)) : width
  }
  const least = columns.map(({ room }, index) => leastOf(index, room))
  const total = (widths: readonly number[]) =>
    widths.filter((width) => width > 0).reduce((sum, width) => sum + width + gap.length, -gap.length)
  for (const rule of ['omit-first', 'omit', 'cut'] as const) {
    if (rule === 'cut')
      for (const index of least.keys()) least[index] = Math.min(least[index] as number, leastOf(index))
    for (const [index, { whenNarrow }] of [...columns.entries()].reverse()) {
      if (whenNarrow === rule && total(least) > available) least[index] = 0
    }
  }
  const widths = natural.map((width, index) =>
    least[index] === 0 ? 0 : Math.min(width, Math.max(available, least[index] as number)),
  )
  for (let excess = total(widths) - available; excess > 0; excess--) {
    const cuttable = [...widths.keys()].filter((index) => (widths[index] as number) > (least[index] as number))
    const [widest] = cuttable.sort((a, b) => (widths[b] as number) - (widths[a] as number))
    if (widest === undefined) break
    widths[widest] = (widths[widest] as number) - 1
  }
  return widths
}

const graphemes = new Intl.Segmenter()

/** Cuts a text to a width. The last character of a text that was cut is `…`. */
export function cut(text: string, width: number): string {
  if (stringWidth(text) <= width) return text
  let kept = ''
  let keptWidth = 0
  for (const { segment } of graphemes.segment(text)) {
    keptWidth += stringWidth(segment)
    if (keptWidth > width - 1) break
    kept += segment
  }
  return `${kept}…`
}

/** A name with its value. Without a value, it is left out. */
export type Field = readonly [name: string, value: Cell, style?: Style]

/** Formats names with their values, one line for each. For a terminal, a time is also shown relative to now. */
export function formatFields(fields: readonly Field[], terminal?: Terminal): string[] {
  const shown = fields.filter(([, value]) => value !== null && value !== undefined && value !== '')
  const width = Math.max(0, ...shown.map(([name]) => name.length))
  return shown.map(([name, value, style]) => {
    const isTime = terminal && value instanceof Date
    const text = isTime ? `${formatCell(value)} (${formatRelative(value, terminal.now)})` : formatCell(value)
    const label = name.padEnd(width)
    return `${terminal ? styleText('bold', label) : label}${gap}${terminal && style ? styleText(style, text) : text}`
  })
}
