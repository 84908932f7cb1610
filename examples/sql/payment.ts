import { JobFailed } from 'accepted/worker'

export interface Charge {
  card: string | null
  total: string
  /** A real payment service charges the card once per key, however often the job is tried. */
  idempotencyKey: string
}

/** Stands in for a payment service, which declines the card named `declined`. */
export async function charge({ card }: Charge): Promise<void> {
  if (card === 'declined') throw new JobFailed('card-declined', 'The card was declined', { status: 402 })
}
