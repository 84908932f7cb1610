import { defineOperation } from 'accepted'
import { sql, type Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from './schema.ts'

const OrderPayload = Type.Object({ orderId: Type.String({ format: 'uuid' }) })

/** Charges the card. The route `POST /orders` enqueues it, together with the order and the reserved pieces. */
export const payOrder = defineOperation({
  name: 'order.pay',
  summary: 'Charge the card of an order',
  input: OrderPayload,
  retry: { limit: 5, delaySeconds: 1, backoff: true, maxDelaySeconds: 60 },
  timeoutSeconds: 30,
  // The order will never be paid. Its pieces go back, and a payment that may have been made is taken back. All of this
  // commits together with the end of the job, whether the card was declined, the job was canceled or a worker crashed.
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status, error } of jobs) {
      // A job that was enqueued with SQL may have any payload.
      if (!Check(OrderPayload, payload)) continue
      const isDeclined = error?.code === 'card-declined'
      // Nothing happens to an order that is closed already: this job was a retry, which found it closed.
      const order = await trx
        .updateTable('orders')
        .set({ status: isDeclined ? 'declined' : status })
        .where('id', '=', payload.orderId)
        .where('status', '=', 'pending')
        .returning(['sku', 'quantity', 'payment_key'])
        .executeTakeFirst()
      if (!order) continue
      await trx
        .updateTable('product')
        .set((row) => ({ stock: row('stock', '+', order.quantity) }))
        .where('sku', '=', order.sku)
        .execute()
      // A declined card was not charged. In all other cases that is not known: the answer may have been lost.
      if (isDeclined) continue
      const refund = JSON.stringify({ paymentKey: order.payment_key })
      await sql`select accepted.enqueue('order.refund', ${refund}::jsonb, idempotency_key => ${order.payment_key})`.execute(
        trx,
      )
    }
  },
})

/** Takes a payment back, or prevents it if it has not been made. It must not fail, so it is tried for days. */
export const refundOrder = defineOperation({
  name: 'order.refund',
  summary: 'Take back the payment of an order',
  input: Type.Object({ paymentKey: Type.String({ format: 'uuid' }) }),
  retry: { limit: 100, delaySeconds: 1, backoff: true, maxDelaySeconds: 3_600 },
  timeoutSeconds: 30,
})
