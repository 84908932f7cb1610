import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { NewTodo } from '../todo/operation.ts'

/** A part of a file that describes one todo. */
export interface FileRecord {
  bytes: Buffer
  /** The number of line breaks in it. In CSV, a quoted value may contain some. */
  lines: number
}

/**
 * Splits a slice of a file into its records. A record that does not end within the slice is left out.
 *
 * @param isEnd whether the file ends with the slice, so that its last record needs no line break
 */
export function splitRecords(slice: Buffer, { isCsv, isEnd }: { isCsv: boolean; isEnd: boolean }): FileRecord[] {
  const records: FileRecord[] = []
  let [start, lines, isQuoted] = [0, 0, false]
  for (let at = 0; at < slice.length; at++) {
    if (isCsv && slice[at] === 0x22) isQuoted = !isQuoted
    if (slice[at] !== 0x0a) continue
    lines += 1
    if (isQuoted) continue
    records.push({ bytes: slice.subarray(start, at + 1), lines })
    ;[start, lines] = [at + 1, 0]
  }
  if (isEnd && start < slice.length) records.push({ bytes: slice.subarray(start), lines: lines + 1 })
  return records
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Returns the text of a record without its line break, or undefined if it is not UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes).replace(/\r?\n$/, '')
  } catch {
    return undefined
  }
}

/** Splits a CSV record into its values (RFC 4180). Returns undefined if a quote is out of place. */
export function parseCsv(text: string): string[] | undefined {
  const values: string[] = []
  const value = /(?:"((?:[^"]|"")*)"|([^",]*))(,|$)/y
  for (;;) {
    const match = value.exec(text)
    if (!match) return undefined
    values.push(match[1]?.replaceAll('""', '"') ?? (match[2] as string))
    if (match[3] === '') return values
  }
}

/** Compiled, which checks 100,000 lines in 0.2 s instead of 1.5 s. */
const line = Compile(Type.Object(NewTodo, { additionalProperties: false }))

export type Parsed = { title: string; dueBy?: string } | { message: string }

/**
 * Makes a todo of the text of a record, or says what is wrong with it.
 *
 * @param columns for CSV: the names in the first record
 */
export function parseRecord(text: string | undefined, columns: readonly string[] | undefined): Parsed {
  if (text === undefined) return { message: 'The line is not UTF-8' }
  const value = columns ? fromCsv(text, columns) : fromJson(text)
  if (value === undefined)
    return { message: `The line is not ${columns ? 'CSV with a value for each column' : 'JSON'}` }
  if (!line.Check(value)) {
    const [error] = line.Errors(value)
    return { message: `${error?.instancePath.slice(1) || 'The line'} ${error?.message ?? 'is not valid'}` }
  }
  // Postgres cannot store such a text.
  if (value.title.includes('\0') || !value.title.isWellFormed()) {
    return { message: 'title must not contain NUL or half a surrogate pair' }
  }
  return value
}

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function fromCsv(text: string, columns: readonly string[]): unknown {
  const values = parseCsv(text)
  if (values?.length !== columns.length) return undefined
  // CSV has no other way to leave a value out than an empty one.
  return Object.fromEntries(columns.map((name, index) => [name, values[index]]).filter(([, value]) => value !== ''))
}
