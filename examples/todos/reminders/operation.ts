import { defineOperation, refuse } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from '../tables.ts'

const ReminderPayload = Type.Object({
  reminderId: Type.String({ format: 'uuid' }),
  email: Type.String(),
  title: Type.String(),
})

/**
 * Has an effect outside Postgres: the worker sends an e-mail, and then records that it was sent. A todo with `remind`
 * enqueues the same job for its due day: see todo/handler.ts.
 */
export const sendReminder = defineOperation({
  name: 'reminder.send',
  summary: 'Send an e-mail reminder for a todo',
  route: { method: 'POST', url: '/todos/:id/reminders' },
  params: Type.Object({ id: Type.String({ format: 'uuid' }) }),
  input: Type.Object({ email: Type.String({ format: 'email' }) }, { additionalProperties: false }),
  payload: ReminderPayload,
  // Without messageId, nothing was sent, because the todo was completed before.
  result: Type.Object({ messageId: Type.Optional(Type.String()) }),
  retry: { limit: 2, delaySeconds: 1 },
  accept: async (trx: Transaction<Tables>, entries) => {
    // Postgres returns ids in lower case, but the client may send them in upper case.
    const todoIdOf = ({ params }: (typeof entries)[number]) => params.id.toLowerCase()
    const todoIds = entries.map(todoIdOf)
    const todos = await trx.selectFrom('todo').select(['id', 'title']).where('id', 'in', todoIds).execute()
    const titles = new Map(todos.map(({ id, title }) => [id, title]))
    const known = entries.filter((entry) => titles.has(todoIdOf(entry)))
    if (known.length > 0) {
      await trx
        .insertInto('reminder')
        .values(known.map((entry) => ({ id: entry.id, todo_id: todoIdOf(entry), email: entry.input.email })))
        .execute()
    }
    return entries.map((entry) => {
      const title = titles.get(todoIdOf(entry))
      if (title === undefined) return refuse(404, 'todo-not-found', `There is no todo ${entry.params.id}`)
      return { payload: { reminderId: entry.id, email: entry.input.email, title } }
    })
  },
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status } of jobs) {
      if (!Check(ReminderPayload, payload)) continue
      const reminder = trx.updateTable('reminder').where('id', '=', payload.reminderId)
      await reminder.where('status', '<>', 'sent').set({ status }).execute()
    }
  },
})
