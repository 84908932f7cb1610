import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Kysely } from 'kysely'
import Type from 'typebox'
import { HttpError } from '../http-error.ts'
import { maySubmit } from '../may-submit.ts'
import type { Tables } from '../tables.ts'
import { addAttachment } from './operation.ts'

const mediaTypes = ['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'application/pdf']

const maxBytes = 5 * 2 ** 20

const params = Type.Object({ id: Type.String({ format: 'uuid' }) })

const Attachment = Type.Object({
  id: Type.String({ format: 'uuid' }),
  name: Type.String(),
  mediaType: Type.String(),
  status: Type.String(),
  content: Type.String({ description: 'path of the file' }),
  thumbnail: Type.Optional(Type.String({ description: 'path of the thumbnail, once there is one' })),
})

export const attachmentRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db

  // Only the routes of this plugin take files.
  app.addContentTypeParser(mediaTypes, { parseAs: 'buffer', bodyLimit: maxBytes }, (_request, body, done) => {
    done(null, body)
  })

  app.post(
    '/todos/:id/attachments',
    {
      schema: {
        ...{ summary: 'Attach a file to a todo', tags: ['attachments'], consumes: mediaTypes, params },
        querystring: Type.Object({ name: Type.String({ minLength: 1, maxLength: 200 }) }),
      },
      onRequest: maySubmit(addAttachment),
    },
    async (request, reply) => {
      if (!Buffer.isBuffer(request.body)) throw new HttpError(415, `Send the file as ${mediaTypes.join(', ')}`)
      if (request.body.length === 0) throw new HttpError(400, 'The file is empty')
      const [id, todo_id] = [crypto.randomUUID(), request.params.id]
      const media_type = `${request.headers['content-type']}`.replace(/;.*/s, '').trim().toLowerCase()
      const row = { id, todo_id, name: request.query.name, media_type, content: request.body }
      const job = await db.transaction().execute(async (trx) => {
        const todo = await trx.selectFrom('todo').select('id').where('id', '=', todo_id).executeTakeFirst()
        if (!todo) throw new HttpError(404, `There is no todo ${todo_id}`)
        await trx.insertInto('attachment').values(row).execute()
        const options = { principal: request.principal, resource: `/attachments/${id}` }
        return app.accepted.enqueue(trx, addAttachment, { attachmentId: id }, options)
      })
      return reply.accepted(job)
    },
  )

  app.get(
    '/attachments/:id',
    { schema: { summary: 'Get an attachment', tags: ['attachments'], params, response: { 200: Attachment } } },
    async ({ params: { id } }) => {
      const attachment = await db
        .selectFrom('attachment')
        .leftJoin('thumbnail', 'attachment_id', 'id')
        .select(['id', 'name', 'media_type as mediaType', 'attachment.status', 'thumbnail.status as thumbnailStatus'])
        .where('id', '=', id)
        .executeTakeFirst()
      if (!attachment) throw new HttpError(404, `There is no attachment ${id}`)
      const { thumbnailStatus, ...rest } = attachment
      const thumbnail = thumbnailStatus === 'ready' && { thumbnail: `/attachments/${id}/thumbnail` }
      return { ...rest, content: `/attachments/${id}/content`, ...thumbnail }
    },
  )

  app.get(
    '/attachments/:id/content',
    { schema: { summary: 'Download an attachment', tags: ['attachments'], params } },
    async ({ params: { id } }, reply) => {
      const file = await db
        .selectFrom('attachment')
        .select(['content', 'media_type'])
        .where('id', '=', id)
        .executeTakeFirst()
      if (!file) throw new HttpError(404, `There is no attachment ${id}`)
      // A browser saves a file of a client, and does not show it as a page of this origin.
      reply.headers({ 'content-disposition': 'attachment', 'x-content-type-options': 'nosniff' })
      return reply.type(file.media_type).send(file.content)
    },
  )

  app.get(
    '/attachments/:id/thumbnail',
    { schema: { summary: 'Get the thumbnail of an image', tags: ['attachments'], params } },
    async ({ params: { id } }, reply) => {
      const thumbnails = db.selectFrom('thumbnail').select('content').where('attachment_id', '=', id)
      const thumbnail = await thumbnails.where('status', '=', 'ready').executeTakeFirst()
      if (!thumbnail) throw new HttpError(404, `There is no thumbnail of ${id}`)
      return reply.header('x-content-type-options', 'nosniff').type('image/webp').send(thumbnail.content)
    },
  )
}
