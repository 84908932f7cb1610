import { defineHandlers } from 'accepted/worker'
import type { Transaction } from 'kysely'
import type { Tables } from './operations.ts'
import * as operations from './operations.ts'

export default defineHandlers(operations, {
  'note.create': { settle: async () => {} },
  'effect.write': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      await trx
        .insertInto('effect')
        .values(jobs.map(({ id }) => ({ job_id: id })))
        .execute()
    },
  },
})
