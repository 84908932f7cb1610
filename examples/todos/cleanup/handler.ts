import type { Handler } from 'accepted/worker'
import type { Transaction } from 'kysely'
import type { Tables } from '../tables.ts'
import type { deleteOldFiles } from './operation.ts'

export const deleteOldFilesHandler = {
  settle: async (trx: Transaction<Tables>, jobs) => {
    const results = []
    for (const { payload } of jobs) results.push(await deleteBefore(trx, new Date(payload.before)))
    return results
  },
} satisfies Handler<typeof deleteOldFiles>

async function deleteBefore(trx: Transaction<Tables>, before: Date): Promise<{ exports: number; imports: number }> {
  const [oldExports, oldImports] = await Promise.all(
    (['todo_export', 'todo_import'] as const).map(async (table) => {
      const old = trx.selectFrom(table).select('id').where('status', '<>', 'pending').where('created_at', '<', before)
      return (await old.execute()).map(({ id }) => id)
    }),
  )
  if (oldExports?.length) {
    await trx.deleteFrom('todo_export_part').where('export_id', 'in', oldExports).execute()
    await trx.deleteFrom('todo_export').where('id', 'in', oldExports).execute()
  }
  if (oldImports?.length) {
    for (const table of ['todo_import_error', 'todo_import_row', 'todo_import_file'] as const) {
      await trx.deleteFrom(table).where('import_id', 'in', oldImports).execute()
    }
    await trx.deleteFrom('todo_import').where('id', 'in', oldImports).execute()
  }
  return { exports: oldExports?.length ?? 0, imports: oldImports?.length ?? 0 }
}
