import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from '../tables.ts'

const ImportPayload = Type.Object({ importId: Type.String({ format: 'uuid' }) })

/**
 * A long job in slices. It has no `route`: a route of the app takes the file, see routes.ts. The handler stores the rows
 * of each slice together with the position in the file, so another attempt continues there. The todos appear all at once,
 * when the job succeeds.
 */
export const importTodos = defineOperation({
  name: 'todo.import',
  summary: 'Import todos from a file',
  input: ImportPayload,
  result: Type.Object({ accepted: Type.Integer(), rejected: Type.Integer() }),
  timeoutSeconds: 600,
  // Nothing is left of an import that is canceled or fails, except its file: a retry starts again.
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status } of jobs) {
      if (!Check(ImportPayload, payload)) continue
      const { importId } = payload
      const reset = { status, next_byte: 0, next_line: 1, accepted: 0, rejected: 0 }
      const changed = trx
        .updateTable('todo_import')
        .set(reset)
        .where('id', '=', importId)
        .where('status', '<>', 'ready')
      if ((await changed.executeTakeFirstOrThrow()).numUpdatedRows === 0n) continue
      await trx.deleteFrom('todo_import_row').where('import_id', '=', importId).execute()
      await trx.deleteFrom('todo_import_error').where('import_id', '=', importId).execute()
    }
  },
})
