import { JobFailed } from 'accepted/worker'
import { type Kysely, sql } from 'kysely'
import { v7 as uuid7 } from 'uuid'
import type { Tables } from '../tables.ts'
import { parseCsv, parseRecord, splitRecords, textOf } from './records.ts'

const maxLines = 100_000

/** How much of the file is in memory at a time: about 1,000 lines. A line must be shorter. */
const sliceBytes = 64 * 1024

export interface ImportJob {
  importId: string
  jobId: string
}

/** How far an import has come. */
export interface Position {
  bytes: number
  next_byte: number
  next_line: number
  accepted: number
  rejected: number
}

/**
 * Reads the next slice of the file, and stores its rows and errors together with the position behind it.
 *
 * @throws JobFailed if the file cannot be imported
 */
export async function importSlice(db: Kysely<Tables>, { importId, jobId }: ImportJob): Promise<Position> {
  const imports = db
    .selectFrom('todo_import')
    .innerJoin('todo_import_file', 'import_id', 'id')
    .where('id', '=', importId)
  const at = await imports
    .select(['bytes', 'media_type', 'next_byte', 'next_line', 'accepted', 'rejected'])
    .select(sql<Buffer>`substring(content from next_byte + 1 for ${sliceBytes})`.as('slice'))
    .executeTakeFirstOrThrow()
  if (at.next_byte >= at.bytes) return at
  const isCsv = at.media_type === 'text/csv'
  const records = splitRecords(at.slice, { isCsv, isEnd: at.next_byte + at.slice.length >= at.bytes })
  if (records.length === 0) refuseFile('line-too-long', `Line ${at.next_line} is longer than 64 KiB`)
  const columns = isCsv ? await readColumns(db, importId) : undefined

  const [rows, errors]: [Row[], RowError[]] = [[], []]
  let [byte, line] = [at.next_byte, at.next_line]
  for (const { bytes, lines } of records) {
    const text = textOf(bytes)
    const isHeader = isCsv && byte === 0
    if (!isHeader && text?.trim() !== '') {
      const parsed = parseRecord(text, columns)
      if ('message' in parsed) errors.push({ line, ...parsed, text: printable(text) })
      else rows.push({ line, todo_id: uuid7(), title: parsed.title, due_by: parsed.dueBy ?? null })
    }
    ;[byte, line] = [byte + bytes.length, line + lines]
  }
  const [accepted, rejected] = [at.accepted + rows.length, at.rejected + errors.length]
  if (accepted + rejected > maxLines) refuseFile('too-many-lines', 'A file may have 100,000 lines. Split it')
  const next = { next_byte: byte, next_line: line, accepted, rejected }
  await store(db, { importId, jobId }, at.next_byte, next, { rows, errors })
  return { ...next, bytes: at.bytes }
}

interface Row {
  line: number
  todo_id: string
  title: string
  due_by: string | null
}

interface RowError {
  line: number
  message: string
  text: string
}

async function store(
  db: Kysely<Tables>,
  { importId, jobId }: ImportJob,
  from: number,
  next: Omit<Position, 'bytes'>,
  { rows, errors }: { rows: readonly Row[]; errors: readonly RowError[] },
): Promise<void> {
  await db.transaction().execute(async (trx) => {
    const own = trx.updateTable('todo_import').where('id', '=', importId).where('job_id', '=', jobId)
    // A worker that was suspended may still run an attempt that another worker has continued, or that was canceled.
    const current = own.where('next_byte', '=', from).where('status', '=', 'pending')
    const { numUpdatedRows } = await current.set(next).executeTakeFirstOrThrow()
    if (numUpdatedRows === 0n) throw new Error('Another attempt has continued this import, or it was canceled')
    // One parameter for all rows: Postgres allows 65,535 in a statement.
    await sql`
      insert into todo_import_row (import_id, line, todo_id, title, due_by)
      select ${importId}::uuid, * from json_to_recordset(${JSON.stringify(rows)}::json)
        as row (line integer, todo_id uuid, title text, due_by date)`.execute(trx)
    await sql`
      insert into todo_import_error (import_id, line, message, text)
      select ${importId}::uuid, * from json_to_recordset(${JSON.stringify(errors)}::json)
        as error (line integer, message text, text text)`.execute(trx)
  })
}

/** Reads the names of the columns: the first record of the file. */
async function readColumns(db: Kysely<Tables>, importId: string): Promise<string[]> {
  const file = db.selectFrom('todo_import_file').where('import_id', '=', importId)
  const { start } = await file
    .select(sql<Buffer>`substring(content from 1 for ${sliceBytes})`.as('start'))
    .executeTakeFirstOrThrow()
  const [header] = splitRecords(start, { isCsv: true, isEnd: start.length < sliceBytes })
  const columns = parseCsv(textOf(header?.bytes ?? new Uint8Array()) ?? '')
  const known = ['title', 'dueBy']
  if (!columns?.includes('title') || columns.some((name) => !known.includes(name))) {
    refuseFile('columns-unknown', 'The first line must name the columns: title, and dueBy if there is one')
  }
  return columns
}

/** The next attempt would read the same file. */
function refuseFile(code: string, message: string): never {
  throw new JobFailed(code, message, { status: 422 })
}

/** The beginning of a rejected line, for the report. */
const printable = (text = '') => text.slice(0, 500).replaceAll('\0', '').toWellFormed()
