import { heartbeatIntervalMs } from '../../src/queue/heartbeat.ts'

/**
 * Tracks whether this worker's own connection is stable. While it is not, an old heartbeat does not mean that another
 * worker is dead.
 */
export interface ConnectionHealth {
  /**
   * Records that a heartbeat was written. A late heartbeat counts as an outage: it shows that this worker itself was
   * stalled.
   */
  recordHeartbeat(): void
  /** Records that Postgres was unavailable. */
  recordOutage(): void
  /** Whether heartbeats are on time and the last outage was more than two heartbeat intervals ago. */
  isStable(): boolean
}

/**
 * Creates the connection health of a worker. After an outage, the heartbeats of all workers are old. Other workers must
 * have time to write a heartbeat before this worker may rescue their jobs.
 */
export function createConnectionHealth(): ConnectionHealth {
  let outageAt = performance.now()
  let heartbeatAt = performance.now()
  return {
    recordHeartbeat() {
      if (performance.now() - heartbeatAt > 2 * heartbeatIntervalMs) outageAt = performance.now()
      heartbeatAt = performance.now()
    },
    recordOutage() {
      outageAt = performance.now()
    },
    isStable() {
      const now = performance.now()
      return now - outageAt > 2 * heartbeatIntervalMs && now - heartbeatAt <= 2 * heartbeatIntervalMs
    },
  }
}
