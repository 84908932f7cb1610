/** Collects items and runs them in batches. */
export interface Batcher<Item> {
  /**
   * Adds an item to the waiting items. If fewer than `maxConcurrentBatches` are running, a new batch starts at the end
   * of this turn of the event loop.
   */
  push(item: Item): void
  /** Returns the number of waiting items. */
  waiting(): number
}

export interface BatcherOptions<Item> {
  maxBatchSize: number
  maxConcurrentBatches: number
  /** Must not reject. */
  run(batch: Item[]): Promise<void>
}

/** Creates a batcher. It needs no timer, because the items that arrive while batches run form the next batch. */
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
