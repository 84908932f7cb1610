import type { Handler } from 'accepted/worker'
import type { Kysely, Transaction } from 'kysely'
import type { Mailer } from '../mail.ts'
import type { Tables } from '../tables.ts'
import type { sendReminder } from './operation.ts'

export const sendReminderHandler = (db: Kysely<Tables>, mailer: Mailer) =>
  ({
    concurrency: 10,
    perform: async ({ payload: { reminderId, email, title } }) => {
      const reminder = db.selectFrom('reminder').innerJoin('todo', 'todo.id', 'todo_id')
      const todo = await reminder.select('completed_at').where('reminder.id', '=', reminderId).executeTakeFirst()
      if (todo?.completed_at) return {}
      // A retry of the job has another id, but the same payload.
      const messageId = `<${reminderId}@todos.example.com>`
      const text = `This is a reminder for your todo:\n\n${title}\n`
      await mailer.send({ to: email, subject: `Reminder: ${title}`, text, messageId })
      return { messageId }
    },
    settle: async (trx: Transaction<Tables>, jobs) => {
      for (const { payload, result } of jobs) {
        const outcome = result.messageId
          ? { status: 'sent' as const, message_id: result.messageId, sent_at: new Date() }
          : { status: 'canceled' as const }
        await trx.updateTable('reminder').set(outcome).where('id', '=', payload.reminderId).execute()
      }
    },
  }) satisfies Handler<typeof sendReminder>
