/** Things that wait, and are done together, so many in a batch and so many batches at once. */
export interface Batcher<Thing> {
  /** Done as soon as there is room, with all that comes in the same turn of the event loop. */
  push(thing: Thing): void
  /** How many wait. */
  waiting(): number
}

export interface BatcherOptions<Thing> {
  /** In one batch, at most. */
  batchSize: number
  batchesAtOnce: number
  /** Never rejects. */
  run(batch: Thing[]): Promise<void>
}

/** Makes a batcher. Without a timer: while the batches before it are under way, the next one grows. */
export function createBatcher<Thing>({ batchSize, batchesAtOnce, run }: BatcherOptions<Thing>): Batcher<Thing> {
  const waiting: Thing[] = []
  let underWay = 0
  const runAll = async () => {
    while (waiting.length > 0) await run(waiting.splice(0, batchSize))
    underWay -= 1
  }
  return {
    push(thing) {
      waiting.push(thing)
      if (underWay === batchesAtOnce) return
      underWay += 1
      setImmediate(runAll)
    },
    waiting: () => waiting.length,
  }
}
