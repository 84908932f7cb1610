/** Limits how many callers work at the same time. The others wait in the order of their arrival. */
export class Limiter {
  readonly #maxActive: number
  readonly #waiting: (() => void)[] = []
  #active = 0

  constructor(maxActive: number) {
    this.#maxActive = maxActive
  }

  /** Whether no caller works. */
  get isIdle(): boolean {
    return this.#active === 0
  }

  /** Does the work when it is the caller's turn. */
  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#active < this.#maxActive) this.#active += 1
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      // A waiting caller takes over this caller's place.
      const next = this.#waiting.shift()
      if (next) next()
      else this.#active -= 1
    }
  }
}
