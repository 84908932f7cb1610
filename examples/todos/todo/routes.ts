import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Kysely } from 'kysely'
import Type from 'typebox'
import type { Tables, TodoTable } from '../tables.ts'

const Todo = Type.Object({
  id: Type.String({ format: 'uuid' }),
  title: Type.String(),
  dueBy: Type.Optional(Type.String({ format: 'date' })),
  status: Type.Enum(['pending', 'ready', 'failed', 'canceled']),
  completedAt: Type.Optional(Type.String({ format: 'date-time' })),
})

interface TodoRow {
  id: string
  title: string
  status: TodoTable['status']
  dueBy: string | null
  completedAt: Date | null
}

const NotFound = Type.Object({ error: Type.Object({ code: Type.String(), message: Type.String() }) })

export const todoRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db
  // Without to_char, the driver would convert the date to a Date.
  const todos = () =>
    db
      .selectFrom('todo')
      .select(['id', 'title', 'status', 'completed_at as completedAt'])
      .select((eb) => eb.fn<string | null>('to_char', ['due_by', eb.val('YYYY-MM-DD')]).as('dueBy'))

  const toTodo = ({ dueBy, completedAt, ...todo }: TodoRow) => ({
    ...todo,
    ...(dueBy !== null && { dueBy }),
    ...(completedAt !== null && { completedAt: completedAt.toISOString() }),
  })

  app.get(
    '/todos',
    { schema: { summary: 'List the newest todos', tags: ['todos'], response: { 200: Type.Array(Todo) } } },
    async () => (await todos().orderBy('id', 'desc').limit(100).execute()).map(toTodo),
  )

  app.get(
    '/todos/:id',
    {
      schema: {
        summary: 'Get a todo',
        tags: ['todos'],
        params: Type.Object({ id: Type.String({ format: 'uuid' }) }),
        response: { 200: Todo, 404: NotFound },
      },
    },
    async (request, reply) => {
      const todo = await todos().where('id', '=', request.params.id).executeTakeFirst()
      if (!todo) {
        const message = `There is no todo ${request.params.id}`
        return reply.code(404).send({ error: { code: 'todo-not-found', message } })
      }
      return toTodo(todo)
    },
  )
}
