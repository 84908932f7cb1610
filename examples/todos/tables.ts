import type { ColumnType, Generated } from 'kysely'

/** A row that an operation writes: pending with the job, then ready, or failed or canceled like the job. */
type RowStatus = 'pending' | 'ready' | 'failed' | 'canceled'

export interface TodoTable {
  id: string
  title: string
  due_by: ColumnType<Date | null, string | null, string | null>
  status: RowStatus
  created_at: ColumnType<Date, never, never>
  completed_at: ColumnType<Date | null, never, Date | null>
}

export interface ReminderTable {
  id: string
  todo_id: string
  email: string
  status: Generated<'pending' | 'sent' | 'failed' | 'canceled'>
  message_id: string | null
  sent_at: ColumnType<Date | null, Date | null, Date | null>
}

export interface SummaryTable {
  todos: number
  completed: number
  overdue: number
  average_completion_seconds: number | null
  refreshed_at: Date
  stale_since: Date | null
}

export interface AttachmentTable {
  id: string
  todo_id: string
  name: string
  media_type: string
  content: Buffer
  status: Generated<RowStatus>
}

export interface ThumbnailTable {
  attachment_id: string
  content: Buffer | null
  status: Generated<RowStatus>
}

export interface ImportTable {
  id: string
  media_type: string
  bytes: number
  status: Generated<RowStatus>
  job_id: string | null
  next_byte: Generated<number>
  next_line: Generated<number>
  accepted: Generated<number>
  rejected: Generated<number>
  created_at: Generated<Date>
}

export interface ExportTable {
  id: string
  format: 'ndjson' | 'csv'
  status: Generated<RowStatus>
  writer: string | null
  created_at: Generated<Date>
}

export interface Tables {
  todo: TodoTable
  reminder: ReminderTable
  todo_summary: SummaryTable
  attachment: AttachmentTable
  thumbnail: ThumbnailTable
  title_word: { word: string; todos: number }
  todo_import: ImportTable
  todo_import_file: { import_id: string; content: Buffer }
  todo_import_row: { import_id: string; line: number; todo_id: string; title: string; due_by: string | null }
  todo_import_error: { import_id: string; line: number; message: string; text: string }
  todo_export: ExportTable
  todo_export_part: { export_id: string; writer: string; position: number; content: string }
  overdue_report: { batch_id: string; email: string; sent: number; failed: number }
}
