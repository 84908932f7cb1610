import type { Kyselify } from 'drizzle-orm/kysely'
import { integer, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core'

export const products = pgTable('product', {
  sku: text().primaryKey(),
  name: text().notNull(),
  price_cents: integer().notNull(),
  stock: integer().notNull(),
})

export const orders = pgTable('orders', {
  id: uuid().primaryKey(),
  customer: text().notNull(),
  request_key: text().notNull(),
  sku: text().notNull(),
  quantity: integer().notNull(),
  total_cents: integer().notNull(),
  card: text().notNull(),
  status: text({ enum: ['pending', 'paid', 'declined', 'failed', 'canceled'] })
    .notNull()
    .default('pending'),
  payment_key: uuid().notNull(),
  job_id: uuid().notNull(),
  created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
})

/** The same tables for the handlers, whose transactions are Kysely's. */
export interface Tables {
  product: Kyselify<typeof products>
  orders: Kyselify<typeof orders>
}
