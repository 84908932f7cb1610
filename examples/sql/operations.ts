import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'
import { Check } from 'typebox/value'
import type { Tables } from './tables.ts'

// Without routes: these jobs come from SQL.

const input = Type.Object({ orderId: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }) })

/** A trigger enqueues this job for each new order: see migrations/0001_create_orders.sql. */
export const confirmOrder = defineOperation({
  name: 'order.confirm',
  summary: 'Confirm an order',
  input,
  // The order of a job that fails or is canceled does not stay pending. Both commit together, whatever ends the job.
  abandon: async (trx: Transaction<Tables>, jobs) => {
    for (const { payload, status, error } of jobs) {
      // The payload may come from SQL, where its schema is not checked.
      if (!Check(input, payload)) continue
      const order = trx.updateTable('orders').where('id', '=', payload.orderId)
      const outcome = error?.code === 'card-declined' ? 'declined' : status
      // A retry of a failed job has the same order, and may have confirmed it.
      await order.where('status', '<>', 'confirmed').set({ status: outcome }).execute()
    }
  },
})

/** Programs in other languages enqueue this job: see invoice.sql, invoice.py and invoice.js. */
export const createInvoice = defineOperation({ name: 'invoice.create', summary: 'Create an invoice', input })
