import { defineOperation, refuse } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from './tables.ts'

const TodoPayload = Type.Object({ todoId: Type.String({ format: 'uuid' }) })
const ReminderPayload = Type.Object({
  reminderId: Type.String({ format: 'uuid' }),
  email: Type.String(),
  title: Type.String(),
})

/** Writes only to Postgres: the request inserts the todo as pending, and the worker sets it to ready. */
export const createTodo = defineOperation({
  name: 'todo.create',
  summary: 'Create a todo',
  route: { method: 'POST', url: '/todos' },
  input: Type.Object(
    {
      title: Type.String({ minLength: 1, maxLength: 200 }),
      // Postgres has no year 0.
      dueBy: Type.Optional(Type.String({ format: 'date', pattern: '^(?!0000)' })),
    },
    { additionalProperties: false },
  ),
  payload: TodoPayload,
  accept: async (trx: Transaction<Tables>, entries) => {
    await trx
      .insertInto('todo')
      .values(
        entries.map(({ id, input }) => ({ id, title: input.title, due_by: input.dueBy ?? null, status: 'pending' })),
      )
      .execute()
    return entries.map(({ id }) => ({ payload: { todoId: id }, resource: `/todos/${id}` }))
  },
  // The todo of a job that fails or is canceled does not stay pending. Both commit together.
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status } of jobs) {
      // A payload that does not match was written with SQL. It belongs to no todo.
      if (!Check(TodoPayload, payload)) continue
      const todo = trx.updateTable('todo').where('id', '=', payload.todoId)
      // A retry of a failed job has the same todo, and may have made it ready.
      await todo.where('status', '<>', 'ready').set({ status }).execute()
    }
  },
})

/** Has an effect outside Postgres: the worker sends an e-mail, and then records that it was sent. */
export const sendReminder = defineOperation({
  name: 'reminder.send',
  summary: 'Send an e-mail reminder for a todo',
  route: { method: 'POST', url: '/todos/:id/reminders' },
  params: Type.Object({ id: Type.String({ format: 'uuid' }) }),
  input: Type.Object({ email: Type.String({ format: 'email' }) }, { additionalProperties: false }),
  payload: ReminderPayload,
  result: Type.Object({ messageId: Type.String() }),
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
