import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Kysely } from 'kysely'
import Type from 'typebox'
import type { Tables } from './operations.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db
  app.get('/documents/:id', { schema: { params: Type.Object({ id: Type.String() }) } }, async (request, reply) => {
    const [document] = await db.selectFrom('document').selectAll().where('id', '=', request.params.id).execute()
    return (
      document ?? reply.code(404).send({ error: { code: 'document-not-found', message: 'There is no such document' } })
    )
  })
}

export default routes
