import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Kysely } from 'kysely'
import Type from 'typebox'
import { HttpError } from '../http-error.ts'
import type { Tables } from '../tables.ts'

const mediaTypes = { ndjson: 'application/x-ndjson', csv: 'text/csv; charset=utf-8' }

export const exportRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db
  app.get(
    '/exports/:id',
    {
      schema: {
        ...{ summary: 'Download the file of an export', tags: ['exports'] },
        params: Type.Object({ id: Type.String({ format: 'uuid' }) }),
      },
    },
    async ({ params: { id } }, reply) => {
      const file = await db.selectFrom('todo_export').selectAll().where('id', '=', id).executeTakeFirst()
      if (!file) throw new HttpError(404, `There is no export ${id}`)
      if (!file.writer) throw new HttpError(404, `The export ${id} is ${file.status}, so it has no file`)
      reply.header('content-disposition', `attachment; filename="todos.${file.format}"`)
      return reply.type(mediaTypes[file.format]).send(Readable.from(partsOf(db, id)))
    },
  )
}

/** Reads the parts of a file one after the other, as fast as the client takes them. */
async function* partsOf(db: Kysely<Tables>, exportId: string): AsyncGenerator<string> {
  for (let position = 0; ; position++) {
    const parts = db.selectFrom('todo_export_part').select('content').where('export_id', '=', exportId)
    const part = await parts.where('position', '=', position).executeTakeFirst()
    if (!part) return
    // A stream in object mode takes an empty text for an end.
    if (part.content) yield part.content
  }
}
