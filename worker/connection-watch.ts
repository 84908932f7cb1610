import { touchEvery } from './vital-signs.ts'

/** Whether we may judge others: what looks like their silence may have been ours. */
export interface ConnectionWatch {
  /** We have said that we live. When that took long, we stood still ourselves. */
  touched(): void
  /** Postgres was away. */
  disturbed(): void
  isSteady(): boolean
}

/**
 * After an outage every worker looks silent to the others until it has said that it lives. So one that was cut off
 * itself does not judge the others before they had the time to.
 */
export function createConnectionWatch(): ConnectionWatch {
  let disturbedAt = performance.now()
  let touchedAt = performance.now()
  return {
    touched() {
      if (performance.now() - touchedAt > 2 * touchEvery) disturbedAt = performance.now()
      touchedAt = performance.now()
    },
    disturbed() {
      disturbedAt = performance.now()
    },
    isSteady() {
      const now = performance.now()
      return now - disturbedAt > 2 * touchEvery && now - touchedAt <= 2 * touchEvery
    },
  }
}
