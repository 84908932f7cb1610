import type { Refusal } from '../acceptance.ts'
import { ProblemError } from '../errors.ts'
import type { AcceptEntry, AcceptOutcome, EntriesRefused } from './accept.ts'

export type Committed = AcceptOutcome | { kind: 'refused'; refusal: Refusal }

/** How long a request may wait for its transaction to start. */
const waitTimeoutMs = 5_000

export const overloaded = () =>
  new ProblemError('database-unavailable', 'Too many requests are waiting to be stored', { retryAfterSeconds: 1 })

/** A request that has not been answered yet. */
export class PendingRequest {
  readonly entry: AcceptEntry
  isAnswered = false
  /** Called once, when the request is answered. */
  onAnswered: (() => void) | undefined
  readonly #resolve: (committed: Committed) => void
  readonly #reject: (error: unknown) => void
  #timer: NodeJS.Timeout | undefined

  constructor(entry: AcceptEntry, resolve: (committed: Committed) => void, reject: (error: unknown) => void) {
    this.entry = entry
    this.#resolve = resolve
    this.#reject = reject
  }

  /** Starts a timer that rejects the request if its transaction does not start in time. */
  startWaiting(): this {
    this.#timer = setTimeout(() => this.reject(overloaded()), waitTimeoutMs)
    return this
  }

  /** Stops the timer. Returns false if the request has already been rejected. */
  start(): boolean {
    clearTimeout(this.#timer)
    return !this.isAnswered
  }

  resolve(committed: Committed): void {
    this.#end()
    this.#resolve(committed)
  }

  reject(error: unknown): void {
    this.#end()
    this.#reject(error)
  }

  #end(): void {
    if (this.isAnswered) return
    this.isAnswered = true
    this.onAnswered?.()
  }

  /** Answers the request if it was refused. */
  refuse({ refusals }: EntriesRefused): void {
    const refusal = refusals.get(this.entry.id)
    if (refusal) this.resolve({ kind: 'refused', refusal })
  }
}
