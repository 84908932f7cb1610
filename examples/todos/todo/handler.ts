import type { Handler } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import { sendReminder } from '../reminders/operation.ts'
import { refreshSummaryLater } from '../summary/refresh-later.ts'
import type { Tables } from '../tables.ts'
import type { completeTodo, createTodo } from './operation.ts'

export const createTodoHandler = {
  settle: async (trx: Transaction<Tables>, jobs) => {
    // `pending` is not required: before a retry, `abandon` has set the todo to failed or canceled.
    const ids = jobs.map((job) => job.payload.todoId)
    await trx.updateTable('todo').set({ status: 'ready' }).where('id', 'in', ids).execute()
    for (const job of jobs) {
      const { reminderId } = job.payload
      if (!reminderId) continue
      const reminder = await trx
        .updateTable('reminder')
        .set({ status: 'pending' })
        .from('todo')
        .whereRef('todo.id', '=', 'todo_id')
        .where('reminder.id', '=', reminderId)
        .returning(['email', 'title', sql<Date>`(due_by + time '09:00') at time zone 'UTC'`.as('runAt')])
        .executeTakeFirstOrThrow()
      const { runAt, ...message } = reminder
      // The job waits in the queue until the day comes. It commits with the todo.
      await job.enqueue(trx, sendReminder, { reminderId, ...message }, { runAt })
    }
    await refreshSummaryLater(trx, jobs)
  },
  batchSize: 100,
} satisfies Handler<typeof createTodo>

export const completeTodoHandler = {
  settle: async (trx: Transaction<Tables>, jobs) => {
    const ids = jobs.map((job) => job.payload.todoId)
    // A todo that is completed twice keeps its first time.
    const completed_at = sql<Date>`coalesce(completed_at, now())`
    await trx.updateTable('todo').set({ completed_at }).where('id', 'in', ids).execute()
    await refreshSummaryLater(trx, jobs)
  },
  batchSize: 100,
} satisfies Handler<typeof completeTodo>
