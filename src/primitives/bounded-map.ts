/** A map of bounded size. When the map is full, a new entry replaces the oldest entry. */
export class BoundedMap<Value> {
  readonly #entries = new Map<string, Value>()
  #maxEntries: number

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries
  }

  /** Raises the maximum to `count` entries, unless it is higher already. */
  growTo(count: number): void {
    this.#maxEntries = Math.max(this.#maxEntries, count)
  }

  get(key: string): Value | undefined {
    return this.#entries.get(key)
  }

  set(key: string, value: Value): void {
    // A Map keeps the insertion order, so the key must be deleted first to move it to the end.
    this.#entries.delete(key)
    this.#entries.set(key, value)
    if (this.#entries.size > this.#maxEntries) this.#entries.delete(this.#entries.keys().next().value as string)
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }
}
