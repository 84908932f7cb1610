/** A map of bounded size: forgets the entry that has not been set for longest. */
export class RecentMap<Value> {
  readonly #entries = new Map<string, Value>()
  #most: number

  constructor(most: number) {
    this.#most = most
  }

  /** Makes room for so many, should there be less. */
  keepAtLeast(count: number): void {
    this.#most = Math.max(this.#most, count)
  }

  get(key: string): Value | undefined {
    return this.#entries.get(key)
  }

  set(key: string, value: Value): void {
    // A map keeps the order of insertion.
    this.#entries.delete(key)
    this.#entries.set(key, value)
    if (this.#entries.size > this.#most) this.#entries.delete(this.#entries.keys().next().value as string)
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }
}
