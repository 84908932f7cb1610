import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Kysely } from 'kysely'
import Type from 'typebox'
import { HttpError } from '../http-error.ts'
import { maySubmit } from '../may-submit.ts'
import type { Tables } from '../tables.ts'
import { importTodos } from './operation.ts'

const mediaTypes = ['application/x-ndjson', 'text/csv']

/** The API holds a file in memory until it is stored. */
const maxBytes = 16 * 2 ** 20

/** The report shows this many errors. The list of rejected lines has all of them. */
const shownErrors = 20

const params = Type.Object({ id: Type.String({ format: 'uuid' }) })

const LineError = Type.Object({ line: Type.Integer(), message: Type.String(), text: Type.String() })

const Import = Type.Object({
  id: Type.String({ format: 'uuid' }),
  status: Type.String(),
  accepted: Type.Integer(),
  rejected: Type.Integer(),
  errors: Type.Array(LineError, { description: `the first ${shownErrors} rejected lines` }),
})

export const importRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db

  app.addContentTypeParser(mediaTypes, { parseAs: 'buffer', bodyLimit: maxBytes }, (_request, body, done) => {
    done(null, body)
  })

  app.post(
    '/imports',
    {
      schema: {
        ...{ summary: 'Import todos from NDJSON or CSV', tags: ['imports'], consumes: mediaTypes },
        description: 'Up to 100,000 lines with `title` and `dueBy`. The first line of CSV names the columns.',
      },
      onRequest: maySubmit(importTodos),
    },
    async (request, reply) => {
      const content = request.body
      if (!Buffer.isBuffer(content)) throw new HttpError(415, `Send the file as ${mediaTypes.join(' or ')}`)
      if (content.length === 0) throw new HttpError(400, 'The file is empty')
      const id = crypto.randomUUID()
      const media_type = /^text\/csv/i.test(`${request.headers['content-type']}`) ? 'text/csv' : 'application/x-ndjson'
      const job = await db.transaction().execute(async (trx) => {
        await trx.insertInto('todo_import').values({ id, media_type, bytes: content.length }).execute()
        await trx.insertInto('todo_import_file').values({ import_id: id, content }).execute()
        const options = { principal: request.principal, resource: `/imports/${id}` }
        const job = await app.accepted.enqueue(trx, importTodos, { importId: id }, options)
        await trx.updateTable('todo_import').set({ job_id: job.id }).where('id', '=', id).execute()
        return job
      })
      return reply.accepted(job)
    },
  )

  app.get(
    '/imports/:id',
    { schema: { summary: 'Get the report of an import', tags: ['imports'], params, response: { 200: Import } } },
    async ({ params: { id } }) => {
      const columns = ['id', 'status', 'accepted', 'rejected'] as const
      const found = await db.selectFrom('todo_import').select(columns).where('id', '=', id).executeTakeFirst()
      if (!found) throw new HttpError(404, `There is no import ${id}`)
      const errors = db.selectFrom('todo_import_error').select(['line', 'message', 'text']).where('import_id', '=', id)
      return { ...found, errors: await errors.orderBy('line').limit(shownErrors).execute() }
    },
  )

  app.get(
    '/imports/:id/rejected',
    {
      schema: {
        ...{ summary: 'List rejected lines', tags: ['imports'], params, response: { 200: Type.Array(LineError) } },
        querystring: Type.Object({ after: Type.Optional(Type.Integer({ minimum: 0, description: 'a line number' })) }),
      },
    },
    async ({ params: { id }, query }) => {
      const errors = db.selectFrom('todo_import_error').select(['line', 'message', 'text']).where('import_id', '=', id)
      return errors
        .where('line', '>', query.after ?? 0)
        .orderBy('line')
        .limit(1_000)
        .execute()
    },
  )
}
