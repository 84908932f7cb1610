import { JobFailed, RetryAfter } from 'accepted/worker'

/** A client of the payment service. Each payment has a key, so that it can be repeated and taken back by that key. */
export interface PaymentService {
  /** Charges a card. Repeating it with the same key charges the card once. */
  charge(key: string, payment: { amountCents: number; card: string }, signal: AbortSignal): Promise<void>
  /** Takes the payment back. If it has not been made yet, it cannot be made any more. */
  refund(key: string, signal: AbortSignal): Promise<void>
}

/** A service that does not answer at all must not hold the job until its timeout. */
const answerTimeoutMs = 2_000

/** @param url the base URL of the service */
export function connectPayments(url: string): PaymentService {
  const send = async (key: string, signal: AbortSignal, init: RequestInit) => {
    const response = await fetch(new URL(`payments/${key}`, url), {
      ...init,
      signal: AbortSignal.any([signal, AbortSignal.timeout(answerTimeoutMs)]),
    })
    // The content does not matter here, but the connection can be used again only once it was read.
    await response.arrayBuffer()
    if (!response.ok) throw errorOf(response)
  }
  return {
    charge: (key, payment, signal) => {
      const headers = { 'content-type': 'application/json' }
      return send(key, signal, { method: 'PUT', headers, body: JSON.stringify(payment) })
    },
    refund: (key, signal) => send(key, signal, { method: 'DELETE' }),
  }
}

/**
 * Decides what an answer means for the job. A network error and a 5xx answer are errors like others: the job is tried
 * again, with growing delays, and the same key.
 */
function errorOf({ status, headers }: Response): Error {
  // The service is busy. This is not the fault of the job and costs it no attempt.
  if (status === 429 || status === 503) return new RetryAfter(retryAfterSeconds(headers.get('retry-after')))
  if (status === 402) return new JobFailed('card-declined', 'The card was declined', { status: 402 })
  if (status >= 400 && status < 500) {
    return new JobFailed('payment-refused', `The payment service refused the payment (${status})`)
  }
  return new Error(`The payment service answered ${status}`)
}

/** Reads the header: seconds, or a date. Default: 5 seconds. */
function retryAfterSeconds(value: string | null): number {
  const seconds = /^\d+$/.test(value ?? '') ? Number(value) : (Date.parse(value ?? '') - Date.now()) / 1_000
  return seconds > 0 ? Math.ceil(seconds) : 5
}
