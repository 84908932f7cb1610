import type { FastifyInstance } from 'fastify'
import type { Kysely } from 'kysely'
import type { Tables } from './operations.ts'

/** Serves the notes, which are the resources of jobs. */
export default async function routes(app: FastifyInstance): Promise<void> {
  const db: Kysely<Tables> = app.accepted.db
  app.get('/broken', async ({ url }) => {
    throw new Error(`The upstream refused http://upstream.example.com${url}`)
  })
  app.get<{ Params: { id: string } }>('/notes/:id', async ({ params }, reply) => {
    const note = await db.selectFrom('note').selectAll().where('id', '=', params.id).executeTakeFirst()
    return note ?? reply.code(404).send({ error: { code: 'note-not-found', message: 'There is no such note' } })
  })
}
