import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Kysely } from 'kysely'
import Type from 'typebox'
import type { Tables } from '../tables.ts'

const Word = Type.Object({ word: Type.String(), todos: Type.Integer() })

export const wordRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db
  app.get(
    '/words',
    {
      schema: {
        summary: 'List the most frequent words in titles',
        tags: ['words'],
        response: { 200: Type.Array(Word) },
      },
    },
    async () => db.selectFrom('title_word').selectAll().orderBy('todos', 'desc').orderBy('word').limit(20).execute(),
  )
}
