import type { Handler } from 'accepted/worker'
import { type Kysely, sql, type Transaction } from 'kysely'
import { refreshSummaryLater } from '../summary/refresh-later.ts'
import type { Tables } from '../tables.ts'
import { importSlice } from './import-slice.ts'
import type { importTodos } from './operation.ts'

/** Percent of the job that perform takes. The rest is settle, which adds all todos in one transaction. */
const performPercent = 90

export const importTodosHandler = (db: Kysely<Tables>) =>
  ({
    concurrency: 2,
    perform: async ({ id, payload: { importId }, progress, signal }) => {
      // A retry is another job. `abandon` has reset the import, so the retry starts at the first line.
      const abandoned = db.updateTable('todo_import').where('status', 'in', ['failed', 'canceled'])
      const own = { status: 'pending' as const, job_id: id }
      await abandoned.where('id', '=', importId).where('job_id', '<>', id).set(own).execute()
      for (;;) {
        signal.throwIfAborted()
        const { bytes, next_byte, next_line, accepted, rejected } = await importSlice(db, { importId, jobId: id })
        progress((performPercent * next_byte) / bytes, `${next_line - 1} lines read, ${rejected} rejected`)
        if (next_byte >= bytes) return { accepted, rejected }
      }
    },
    settle: async (trx: Transaction<Tables>, jobs) => {
      for (const { payload } of jobs) await addTodos(trx, payload.importId)
      await refreshSummaryLater(trx, jobs)
    },
  }) satisfies Handler<typeof importTodos>

async function addTodos(trx: Transaction<Tables>, importId: string): Promise<void> {
  await trx.updateTable('todo_import').set({ status: 'ready' }).where('id', '=', importId).execute()
  await sql`
    insert into todo (id, title, due_by, status)
    select todo_id, title, due_by, 'ready' from todo_import_row where import_id = ${importId}`.execute(trx)
  await trx.deleteFrom('todo_import_row').where('import_id', '=', importId).execute()
  await trx.deleteFrom('todo_import_file').where('import_id', '=', importId).execute()
}
