/** Collects items and runs them in batches. */
export interface Batcher<Item> {
  /**
   * Adds an item. It runs as soon as another batch may start, together with items that arrive in the same turn of the
   * event loop.
   */
  push(item: Item): void
  /** How many items wait. */
  waiting(): number
}

export interface BatcherOptions<Item> {
  maxBatchSize: number
  maxConcurrentBatches: number
  /** Must not reject. */
  run(batch: Item[]): Promise<void>
}

/** Creates a batcher. It needs no timer: while earlier batches run, the next one grows. */
export function createBatcher<Item>({ maxBatchSize, maxConcurrentBatches, run }: BatcherOptions<Item>): Batcher<Item> {
  const waiting: Item[] = []
  let running = 0
  const runAll = async () => {
    while (waiting.length > 0) await run(waiting.splice(0, maxBatchSize))
    running -= 1
  }
  return {
    push(item) {
      waiting.push(item)
      if (running === maxConcurrentBatches) return
      running += 1
      setImmediate(runAll)
    },
    waiting: () => waiting.length,
  }
}
