import { defineHandlers } from 'accepted/worker'
import type { Generated, Transaction } from 'kysely'
import * as operations from './operations.ts'

interface Tables {
  orders: { id: Generated<number>; customer: string; total: string; confirmed_at: Date | null }
  invoice: { order_id: number }
}

export default defineHandlers(operations, {
  'order.confirm': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      const ids = jobs.map((job) => job.payload.orderId)
      await trx.updateTable('orders').set({ confirmed_at: new Date() }).where('id', 'in', ids).execute()
    },
    batchSize: 100,
  },
  'invoice.create': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      const rows = jobs.map((job) => ({ order_id: job.payload.orderId }))
      await trx.insertInto('invoice').values(rows).execute()
    },
    batchSize: 100,
  },
})
