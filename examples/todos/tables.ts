import type { ColumnType, Generated } from 'kysely'

export interface TodoTable {
  id: string
  title: string
  due_by: ColumnType<Date | null, string | null, string | null>
  status: 'pending' | 'ready' | 'failed' | 'canceled'
  created_at: ColumnType<Date, never, never>
}

export interface ReminderTable {
  id: string
  todo_id: string
  email: string
  status: Generated<'pending' | 'sent' | 'failed' | 'canceled'>
  message_id: string | null
  sent_at: ColumnType<Date | null, Date | null, Date | null>
}

export interface Tables {
  todo: TodoTable
  reminder: ReminderTable
}
