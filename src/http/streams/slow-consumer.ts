/** If a client has stopped reading, it is disconnected above this number of pending changes. */
const maxPendingWhenStalled = 2_000
/** If a client still reads, it is disconnected only above this number of pending changes. */
const maxPendingWhenSlow = 20_000
/** A client has stopped reading if its connection has accepted no more data for this long. */
const stalledAfterMs = 1_000

/** Detects a client that reads more slowly than its jobs change. A short burst of changes does not count. */
export class SlowConsumerGuard {
  #lastDrainedAt = performance.now()

  /** Call this when the connection can accept more data. */
  recordDrained(): void {
    this.#lastDrainedAt = performance.now()
  }

  /** Returns whether to disconnect the client. After a reconnect, the client gets the current status of its jobs. */
  isTooSlow(pendingCount: number): boolean {
    if (pendingCount <= maxPendingWhenStalled) return false
    return pendingCount > maxPendingWhenSlow || performance.now() - this.#lastDrainedAt > stalledAfterMs
  }
}
