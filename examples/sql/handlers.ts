import { defineHandlers } from 'accepted/worker'
import type { Kysely, Transaction } from 'kysely'
import * as operations from './operations.ts'
import { charge } from './payment.ts'
import type { Tables } from './tables.ts'

export default defineHandlers(operations, ({ db }: { db: Kysely<Tables> }) => ({
  'order.confirm': {
    // The customer may have entered another card since the first try, so perform reads the order each time.
    perform: async ({ payload, effectKey }) => {
      const orders = db.selectFrom('orders').select(['card', 'total']).where('id', '=', payload.orderId)
      const order = await orders.executeTakeFirstOrThrow()
      await charge({ ...order, idempotencyKey: effectKey })
    },
    // A retry finds the order as abandon left it: declined, failed or canceled. So settle requires no status.
    settle: async (trx: Transaction<Tables>, jobs) => {
      const ids = jobs.map((job) => job.payload.orderId)
      const confirmed = { status: 'confirmed' as const, confirmed_at: new Date() }
      await trx.updateTable('orders').set(confirmed).where('id', 'in', ids).execute()
    },
  },
  'invoice.create': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      const rows = jobs.map((job) => ({ order_id: job.payload.orderId }))
      await trx.insertInto('invoice').values(rows).execute()
    },
    batchSize: 100,
  },
}))
