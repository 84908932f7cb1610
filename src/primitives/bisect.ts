export interface BisectOptions<Item> {
  /** Runs items together: all of them take effect, or it throws and none does. */
  run(items: readonly Item[]): Promise<void>
  /** Whether a failed batch is halved. False when the halves would fail the same way, or must not run again. */
  canSplit(error: unknown): boolean
  /** Called before a failed batch is halved. */
  onSplit?(): void
  /** Called with items that failed and are not halved any further. Must not reject. */
  onFailure(items: readonly Item[], error: unknown): Promise<void> | void
}

/**
 * Runs a batch; when it fails, runs its halves one after the other, and so on. Only the items that fail by themselves
 * fail, and one bad item among n costs about 2 log2 n runs.
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
