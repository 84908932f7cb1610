import type { Logger } from 'pino'
import type { OutcomeCounts } from './metrics.ts'

/** Logs what a worker does, so that a healthy worker is not silent. */
export interface ActivityLog {
  count(operation: string, counts: OutcomeCounts): void
  /** Logs what has not been logged yet. */
  close(): void
}

const reportIntervalMs = 60_000

/** Creates a log that sums up, once a minute, how the attempts ended. A minute without attempts is not logged. */
export function createActivityLog(log: Logger): ActivityLog {
  let totals: OutcomeCounts = {}
  let byOperation: Record<string, OutcomeCounts> = {}
  const write = () => {
    if (Object.keys(byOperation).length > 0)
      log.info({ ...totals, byOperation }, 'Attempts ended since the last report')
    totals = {}
    byOperation = {}
  }
  const timer = setInterval(write, reportIntervalMs).unref()
  return {
    count(operation, counts) {
      for (const [outcome, jobs] of Object.entries(counts) as [keyof OutcomeCounts, number][]) {
        if (jobs === 0) continue
        byOperation[operation] ??= {}
        for (const sums of [totals, byOperation[operation]]) sums[outcome] = (sums[outcome] ?? 0) + jobs
      }
    },
    close() {
      clearInterval(timer)
      write()
    },
  }
}
