import { ProblemError } from '../../errors.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'

/** How much may be used in a time window. */
export interface RateLimit {
  requests: number
  /** The length of the time window. */
  seconds: number
}

const maxRememberedKeys = 10_000

interface Window {
  endsAt: number
  used: number
}

/** Counts what each key, a principal or an address, has used in its current time window. */
export class Quota {
  readonly limit: RateLimit
  /** The header RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers). */
  readonly policy: string
  readonly #name: string
  readonly #windows = new BoundedMap<Window>(maxRememberedKeys)

  /** @param name the name of the policy in the headers */
  constructor(name: string, limit: RateLimit) {
    this.#name = name
    this.limit = limit
    this.policy = `"${name}";q=${limit.requests};w=${limit.seconds}`
  }

  isUsedUp(key: string): boolean {
    return this.#windowOf(key).used >= this.limit.requests
  }

  /** Counts one use, unless the quota is used up. Returns whether it was counted. */
  use(key: string): boolean {
    const window = this.#windowOf(key)
    if (window.used >= this.limit.requests) return false
    window.used += 1
    return true
  }

  /** Makes the headers that name the policy and what is left. */
  headersOf(key: string): { 'ratelimit-policy': string; ratelimit: string } {
    const left = this.limit.requests - this.#windowOf(key).used
    return { 'ratelimit-policy': this.policy, ratelimit: `"${this.#name}";r=${left};t=${this.#secondsLeft(key)}` }
  }

  /** Creates the error for a key whose quota is used up. */
  refusal(key: string, message?: string): ProblemError {
    const options = { retryAfterSeconds: this.#secondsLeft(key), headers: this.headersOf(key) }
    return new ProblemError('too-many-requests', message, options)
  }

  #secondsLeft(key: string): number {
    return Math.max(1, Math.ceil((this.#windowOf(key).endsAt - performance.now()) / 1000))
  }

  #windowOf(key: string): Window {
    const now = performance.now()
    const current = this.#windows.get(key)
    if (current && now < current.endsAt) return current
    const window = { endsAt: now + this.limit.seconds * 1000, used: 0 }
    this.#windows.set(key, window)
    return window
  }
}
