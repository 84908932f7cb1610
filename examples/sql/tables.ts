import type { Generated } from 'kysely'

export interface Tables {
  orders: {
    id: Generated<number>
    customer: string
    total: string
    card: string | null
    status: Generated<'pending' | 'confirmed' | 'declined' | 'failed' | 'canceled'>
    confirmed_at: Date | null
  }
  invoice: { order_id: number }
}
