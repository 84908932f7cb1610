import { defineOperation, refuse } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from '../tables.ts'

/** What a client sends for a new todo. A line of an import has the same members, without `remind`. */
export const NewTodo = {
  title: Type.String({ minLength: 1, maxLength: 200 }),
  // Postgres has no year 0.
  dueBy: Type.Optional(Type.String({ format: 'date', pattern: '^(?!0000)' })),
}

const TodoPayload = Type.Object({
  todoId: Type.String({ format: 'uuid' }),
  reminderId: Type.Optional(Type.String({ format: 'uuid' })),
})

/** Writes only to Postgres: the request inserts the todo as pending, and the worker sets it to ready. */
export const createTodo = defineOperation({
  name: 'todo.create',
  summary: 'Create a todo',
  route: { method: 'POST', url: '/todos' },
  input: Type.Object(
    {
      ...NewTodo,
      remind: Type.Optional(Type.String({ format: 'email', description: 'gets an e-mail on the due day' })),
    },
    { additionalProperties: false },
  ),
  payload: TodoPayload,
  accept: async (trx: Transaction<Tables>, entries) => {
    const isPossible = ({ input }: (typeof entries)[number]) => !input.remind || input.dueBy !== undefined
    const possible = entries.filter(isPossible)
    const todos = possible.map(({ id, input }) => {
      return { id, title: input.title, due_by: input.dueBy ?? null, status: 'pending' as const }
    })
    if (todos.length > 0) await trx.insertInto('todo').values(todos).execute()
    const reminders = possible.flatMap(({ id, input }) =>
      input.remind ? [{ id: crypto.randomUUID(), todo_id: id, email: input.remind }] : [],
    )
    if (reminders.length > 0) await trx.insertInto('reminder').values(reminders).execute()
    const reminderOf = new Map(reminders.map((reminder) => [reminder.todo_id, { reminderId: reminder.id }]))
    return entries.map((entry) =>
      isPossible(entry)
        ? { payload: { todoId: entry.id, ...reminderOf.get(entry.id) }, resource: `/todos/${entry.id}` }
        : refuse(400, 'due-date-missing', 'A todo with `remind` needs `dueBy`, the day on which the e-mail is sent'),
    )
  },
  // The todo of a job that fails or is canceled does not stay pending. Both commit together.
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status } of jobs) {
      // A payload that does not match was written with SQL. It belongs to no todo.
      if (!Check(TodoPayload, payload)) continue
      const todo = trx.updateTable('todo').where('id', '=', payload.todoId)
      // A retry of a failed job has the same todo, and may have made it ready.
      await todo.where('status', '<>', 'ready').set({ status }).execute()
      if (!payload.reminderId) continue
      const reminder = trx.updateTable('reminder').where('id', '=', payload.reminderId)
      await reminder.where('status', '<>', 'sent').set({ status }).execute()
    }
  },
})

/** Refuses a todo that does not exist or is not ready, before a job is made. */
export const completeTodo = defineOperation({
  name: 'todo.complete',
  summary: 'Complete a todo',
  route: { method: 'POST', url: '/todos/:id/complete' },
  params: Type.Object({ id: Type.String({ format: 'uuid' }) }),
  input: Type.Object({}, { additionalProperties: false }),
  payload: Type.Object({ todoId: Type.String({ format: 'uuid' }) }),
  accept: async (trx: Transaction<Tables>, entries) => {
    // Postgres returns ids in lower case, but the client may send them in upper case.
    const ids = entries.map(({ params }) => params.id.toLowerCase())
    const todos = await trx.selectFrom('todo').select(['id', 'status']).where('id', 'in', ids).execute()
    const statuses = new Map(todos.map(({ id, status }) => [id, status]))
    return ids.map((todoId) => {
      const status = statuses.get(todoId)
      if (status === undefined) return refuse(404, 'todo-not-found', `There is no todo ${todoId}`)
      if (status !== 'ready') return refuse(409, 'todo-not-ready', `The todo ${todoId} is ${status}, not ready`)
      return { payload: { todoId }, resource: `/todos/${todoId}` }
    })
  },
})
