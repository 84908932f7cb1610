import { defineHandlers } from 'accepted/worker'
import type { Transaction } from 'kysely'
import * as operations from './operations.ts'
import type { Tables } from './tables.ts'

export default defineHandlers(operations, {
  'document.count': {
    // Slow or external work, outside any transaction. It may run more than once.
    perform: async ({ payload, progress }) => {
      progress(50, 'Counting')
      return { words: payload.text.trim().split(/\s+/).length }
    },
    // Writes to Postgres. They commit together with the completion of the jobs, so they take effect once.
    settle: async (trx: Transaction<Tables>, jobs) => {
      for (const { payload, result } of jobs) {
        await trx.updateTable('document').set(result).where('id', '=', payload.documentId).execute()
      }
    },
  },
})
