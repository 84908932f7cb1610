import { defineOperation } from 'accepted'
import Type from 'typebox'

// Without routes: these jobs come from SQL.

const input = Type.Object({ orderId: Type.Integer() })

/** A trigger enqueues this job for each new order: see migrations/0001_create_orders.sql. */
export const confirmOrder = defineOperation({ name: 'order.confirm', summary: 'Confirm an order', input })

/** Programs in other languages enqueue this job: see invoice.sql, invoice.py and invoice.js. */
export const createInvoice = defineOperation({ name: 'invoice.create', summary: 'Create an invoice', input })
