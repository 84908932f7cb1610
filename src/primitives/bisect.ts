export interface BisectOptions<Item> {
  /** Runs items together. Either all items take effect, or the function throws and no item takes effect. */
  run(items: readonly Item[]): Promise<void>
  /**
   * Returns whether to halve a batch that failed with this error. Return false when the halves would fail in the same
   * way, or when the items must not run again.
   */
  canSplit(error: unknown): boolean
  /** Called before a failed batch is halved. */
  onSplit?(): void
  /** Called with the items of a batch that failed and is not halved. Must not reject. */
  onFailure(items: readonly Item[], error: unknown): Promise<void> | void
}

/**
 * Runs a batch. When a batch fails, runs its halves one after the other, and halves them again when they fail. In this
 * way, a bad item does not make other items fail. One bad item among n items costs about 2 log2 n runs.
 */
export async function runBisecting<Item>(items: readonly Item[], options: BisectOptions<Item>): Promise<void> {
  if (items.length === 0) return
  try {
    await options.run(items)
  } catch (error) {
    if (items.length === 1 || !options.canSplit(error)) return options.onFailure(items, error)
    options.onSplit?.()
    const middle = Math.ceil(items.length / 2)
    await runBisecting(items.slice(0, middle), options)
    await runBisecting(items.slice(middle), options)
  }
}
