import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Kysely, sql } from 'kysely'
import Type from 'typebox'
import { HttpError } from '../http-error.ts'
import { maySubmit } from '../may-submit.ts'
import { sendReminder } from '../reminders/operation.ts'
import type { Tables } from '../tables.ts'
import { reportOverdue } from './operation.ts'

/** A batch may have 10,000 items. */
const maxItems = 10_000

const Report = Type.Object({ email: Type.String(), sent: Type.Integer(), failed: Type.Integer() })

export const overdueRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const db: Kysely<Tables> = app.accepted.db

  app.post(
    '/overdue/reminders',
    {
      schema: {
        ...{ summary: 'Send reminders for all overdue todos', tags: ['overdue'] },
        body: Type.Object({ email: Type.String({ format: 'email' }) }, { additionalProperties: false }),
      },
      onRequest: maySubmit(sendReminder),
    },
    async ({ body: { email }, principal }, reply) => {
      const batch = await db.transaction().execute(async (trx) => {
        const open = trx.selectFrom('todo').where('status', '=', 'ready').where('completed_at', 'is', null)
        const overdue = open.where(sql<boolean>`due_by < (now() at time zone 'UTC')::date`)
        const todos = await overdue.select(['id', 'title']).orderBy('due_by').limit(maxItems).execute()
        if (todos.length === 0) throw new HttpError(404, 'No todo is overdue')
        const reminders = todos.map(({ id, title }) => ({ id: crypto.randomUUID(), todo_id: id, email, title }))
        const rows = reminders.map(({ title: _title, ...row }) => row)
        // A statement may have 65,535 parameters.
        for (let at = 0; at < rows.length; at += 1_000) {
          await trx
            .insertInto('reminder')
            .values(rows.slice(at, at + 1_000))
            .execute()
        }
        return app.accepted.enqueueBatch(trx, {
          principal,
          items: reminders.map(({ id, title }) => {
            return { operation: sendReminder, payload: { reminderId: id, email, title } }
          }),
          onEnd: { operation: reportOverdue, payload: { email } },
        })
      })
      return reply.accepted(batch)
    },
  )

  app.get(
    '/overdue/reports/:id',
    {
      schema: {
        ...{ summary: 'Get the report of a batch of reminders', tags: ['overdue'] },
        params: Type.Object({ id: Type.String({ format: 'uuid', description: 'the id of the batch' }) }),
        response: { 200: Report },
      },
    },
    async ({ params: { id } }) => {
      const reports = db.selectFrom('overdue_report').select(['email', 'sent', 'failed'])
      const report = await reports.where('batch_id', '=', id).executeTakeFirst()
      if (!report) throw new HttpError(404, `There is no report of a batch ${id}`)
      return report
    },
  )
}
