import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from '../tables.ts'

const Format = Type.Enum(['ndjson', 'csv'])

const ExportPayload = Type.Object({ exportId: Type.String({ format: 'uuid' }), format: Format })

/** Makes a file. The result URL redirects to it. */
export const exportTodos = defineOperation({
  name: 'todo.export',
  summary: 'Export all todos to a file',
  route: { method: 'POST', url: '/exports' },
  input: Type.Object({ format: Format }, { additionalProperties: false }),
  payload: ExportPayload,
  timeoutSeconds: 600,
  accept: async (trx: Transaction<Tables>, entries) => {
    await trx
      .insertInto('todo_export')
      .values(entries.map(({ id, input }) => ({ id, format: input.format })))
      .execute()
    return entries.map(({ id, input }) => {
      return { payload: { exportId: id, format: input.format }, resource: `/exports/${id}` }
    })
  },
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status } of jobs) {
      if (!Check(ExportPayload, payload)) continue
      const changed = trx.updateTable('todo_export').set({ status }).where('id', '=', payload.exportId)
      const { numUpdatedRows } = await changed.where('status', '<>', 'ready').executeTakeFirstOrThrow()
      if (numUpdatedRows === 0n) continue
      await trx.deleteFrom('todo_export_part').where('export_id', '=', payload.exportId).execute()
    }
  },
})
