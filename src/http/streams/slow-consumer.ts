/** A client that has stopped reading is cut off at this many pending changes. */
const maxPendingWhenStalled = 2_000
/** A client that reads slowly is cut off at this many. */
const maxPendingWhenSlow = 20_000
/** A client counts as stalled when its connection has had no room for this long. */
const stalledAfterMs = 1_000

/** Detects a client that reads more slowly than its jobs change. A burst of changes alone is not the client's fault. */
export class SlowConsumerGuard {
  #lastDrainedAt = performance.now()

  /** Call this when the connection has room for more. */
  recordDrained(): void {
    this.#lastDrainedAt = performance.now()
  }

  /** Whether to cut the client off. It then reconnects and starts from the current status of its jobs. */
  isTooSlow(pendingCount: number): boolean {
    if (pendingCount <= maxPendingWhenStalled) return false
    return pendingCount > maxPendingWhenSlow || performance.now() - this.#lastDrainedAt > stalledAfterMs
  }
}
