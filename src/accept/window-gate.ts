/** A request that is answered once. */
interface Request {
  readonly isAnswered: boolean
  onAnswered: (() => void) | undefined
}

/**
 * Admits the requests of a coalescing window to one batch of this process at a time. Requests that arrive in the
 * meantime wait, and then share the next batch. Otherwise most requests of a busy window would find it locked by another
 * batch, and each of them would need a transaction of its own.
 */
export class WindowGate<Req extends Request> {
  readonly #windowOf: (request: Req) => string | undefined
  readonly #readmit: (request: Req) => void
  /** The windows of the admitted requests. */
  readonly #busy = new Map<string, { unanswered: number; waiting: Req[] }>()
  #waiting = 0

  /**
   * @param windowOf returns undefined for a request that shares its job with no other request
   * @param readmit called for each request that has waited
   */
  constructor(windowOf: (request: Req) => string | undefined, readmit: (request: Req) => void) {
    this.#windowOf = windowOf
    this.#readmit = readmit
  }

  /** The number of requests that wait. */
  get waiting(): number {
    return this.#waiting
  }

  /** Returns the requests of a batch that may start now. The others wait until the earlier ones are answered. */
  admit(batch: readonly Req[]): Req[] {
    const unanswered = batch.filter(({ isAnswered }) => !isAnswered)
    const byWindow = Map.groupBy(unanswered, this.#windowOf)
    return [...byWindow].flatMap(([window, requests]) => {
      if (window === undefined) return requests
      const busy = this.#busy.get(window)
      if (busy) {
        busy.waiting.push(...requests)
        this.#waiting += requests.length
        return []
      }
      this.#busy.set(window, { unanswered: requests.length, waiting: [] })
      for (const request of requests) request.onAnswered = () => this.#leave(window)
      return requests
    })
  }

  #leave(window: string): void {
    const busy = this.#busy.get(window)
    if (!busy) return
    busy.unanswered -= 1
    if (busy.unanswered > 0) return
    this.#busy.delete(window)
    this.#waiting -= busy.waiting.length
    for (const request of busy.waiting) this.#readmit(request)
  }
}
