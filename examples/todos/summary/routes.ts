import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Kysely } from 'kysely'
import Type from 'typebox'
import type { Tables } from '../tables.ts'

const Summary = Type.Object({
  todos: Type.Integer(),
  completed: Type.Integer(),
  overdue: Type.Integer({ description: 'not completed, and due before today (UTC)' }),
  averageCompletionSeconds: Type.Optional(Type.Number({ description: 'from the creation to the completion' })),
  refreshedAt: Type.String({ format: 'date-time' }),
})

export const summaryRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db
  app.get(
    '/summary',
    { schema: { summary: 'Read the summary of all todos', tags: ['summary'], response: { 200: Summary } } },
    async () => {
      const { todos, completed, overdue, ...row } = await db
        .selectFrom('todo_summary')
        .selectAll()
        .executeTakeFirstOrThrow()
      return {
        ...{ todos, completed, overdue },
        ...(row.average_completion_seconds !== null && { averageCompletionSeconds: row.average_completion_seconds }),
        refreshedAt: row.refreshed_at.toISOString(),
      }
    },
  )
}
