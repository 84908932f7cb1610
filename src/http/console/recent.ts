import { BoundedMap } from '../../primitives/bounded-map.ts'

const maxRemembered = 100

/** Shares what was read a moment ago, or is being read. An error is not remembered. */
export class Recent<Value> {
  readonly #maxAgeMs: number
  readonly #values = new BoundedMap<{ value: Promise<Value>; readAt: number }>(maxRemembered)

  constructor(maxAgeMs: number) {
    this.#maxAgeMs = maxAgeMs
  }

  get(key: string, read: () => Promise<Value>): Promise<Value> {
    const known = this.#values.get(key)
    if (known && performance.now() - known.readAt < this.#maxAgeMs) return known.value
    const value = read()
    this.#values.set(key, { value, readAt: performance.now() })
    value.catch(() => this.#values.delete(key))
    return value
  }
}
