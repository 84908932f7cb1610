import type { Deadline } from './deadline.ts'
import { isTransient } from './error.ts'

const maxJitterSeconds = 8

/** Failures of requests in a row, after which the client pauses or gives up. */
export class Failures {
  readonly #maxMs: number
  #count = 0
  #since = 0

  /** @param maxMs how long requests may fail in a row */
  constructor(maxMs: number) {
    this.#maxMs = maxMs
  }

  reset(): void {
    this.#count = 0
  }

  /**
   * Waits before the next request: as long as the API has asked for, and a random time, which doubles. So clients whose
   * requests failed together do not repeat them together.
   *
   * @throws the error, if repeating the request does not help or takes too long
   */
  async pause(error: unknown, deadline: Deadline): Promise<void> {
    if (!isTransient(error)) throw error
    const now = Date.now()
    if (this.#count === 0) this.#since = now
    const seconds = (error.retryAfterSeconds ?? 0) + Math.random() * Math.min(2 ** this.#count, maxJitterSeconds)
    this.#count += 1
    if (now + seconds * 1000 > this.#since + this.#maxMs) throw error
    await deadline.sleep(seconds * 1000)
  }
}
