import { defineHandlers, JobFailed } from 'accepted/worker'
import type { Kysely, Transaction } from 'kysely'
import * as operations from './operations.ts'
import { connectPayments } from './payment.ts'
import type { Tables } from './schema.ts'

export default defineHandlers(operations, ({ db }: { db: Kysely<Tables> }) => {
  const payments = connectPayments(process.env.PAYMENT_URL ?? 'http://127.0.0.1:4000')
  return {
    'order.pay': {
      concurrency: 10,
      perform: async ({ payload, signal }) => {
        const columns = ['status', 'total_cents', 'card', 'payment_key'] as const
        const orders = db.selectFrom('orders').select(columns).where('id', '=', payload.orderId)
        const order = await orders.executeTakeFirstOrThrow()
        // This job retries one that has failed. Its `abandon` has returned the pieces and the money.
        if (order.status !== 'pending') {
          throw new JobFailed('order-closed', `The order is ${order.status}. Place a new one.`, { status: 409 })
        }
        await payments.charge(order.payment_key, { amountCents: order.total_cents, card: order.card }, signal)
      },
      settle: async (trx: Transaction<Tables>, jobs) => {
        const ids = jobs.map((job) => job.payload.orderId)
        await trx.updateTable('orders').set({ status: 'paid' }).where('id', 'in', ids).execute()
      },
    },

    'order.refund': {
      concurrency: 10,
      perform: ({ payload, signal }) => payments.refund(payload.paymentKey, signal),
    },
  }
})
