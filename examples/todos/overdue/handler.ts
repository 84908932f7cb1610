import type { Handler } from 'accepted/worker'
import type { Transaction } from 'kysely'
import type { Tables } from '../tables.ts'
import type { reportOverdue } from './operation.ts'

export const reportOverdueHandler = {
  settle: async (trx: Transaction<Tables>, jobs) => {
    for (const { batch, payload } of jobs) {
      // Without a batch, the job was enqueued with SQL.
      if (!batch) continue
      const report = { batch_id: batch.id, ...payload, sent: batch.succeeded, failed: batch.failed + batch.canceled }
      await trx.insertInto('overdue_report').values(report).execute()
    }
  },
} satisfies Handler<typeof reportOverdue>
