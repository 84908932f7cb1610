import type { Database } from '../src/db/database.ts'
import { createRegistry, type MetricsRegistry, type MetricValues } from '../src/primitives/metrics-registry.ts'
import { settledWithin } from '../src/primitives/timeout.ts'
import { readBacklog } from '../src/queue/due-jobs.ts'

/**
 * The label `outcome` of an attempt:
 * - `retried`: the job waits for its next attempt, whether or not the ended attempt counts.
 * - `released`: the worker released the job, because the worker stopped or the job could not begin.
 * - `rescued`: the job was taken from a dead worker.
 * - `lost`: the worker no longer held the claim, so the attempt was rolled back.
 */
export type OutcomeLabel = 'succeeded' | 'failed' | 'retried' | 'canceled' | 'released' | 'rescued' | 'lost'

/** The number of attempts by outcome. */
export type OutcomeCounts = Partial<Record<OutcomeLabel, number>>

/** The metrics of a worker. */
export interface Metrics {
  countOutcomes(operation: string, counts: OutcomeCounts): void
  /** Records that `jobs` attempts took `seconds` each. */
  observeRun(operation: string, seconds: number, jobs: number): void
  /** Records the time from when a job was due until it was claimed, in seconds. */
  observeWait(operation: string, seconds: number): void
  /**
   * Counts a transaction that runs again. `bisected`: the transaction of a batch failed, and a new transaction runs for
   * each half of the batch.
   */
  countRetry(operation: string, reason: 'contention' | 'outage' | 'bisected'): void
  /** Counts a job that could not end, because `abandon` failed. */
  countAbandonFailure(operation: string): void
  /** Returns all metrics with their values. */
  values(): Promise<MetricValues[]>
  /** Returns all metrics in Prometheus' text format. */
  text(): Promise<string>
}

export interface MetricsOptions {
  operations: readonly string[]
  /** Returns how many jobs of an operation this process holds. */
  running(operation: string): number
  isListening(): boolean
}

const backlogCacheMs = 5_000
const backlogTimeoutMs = 1_000

/** Creates the metrics of a worker. */
export function createMetrics(database: Database, options: MetricsOptions): Metrics {
  const registry = createRegistry(database.pool)
  const { counter, histogram } = registry
  const { operations } = options
  const outcomes = counter('accepted_attempts_total', 'Attempts that ended, by outcome', ['operation', 'outcome'])
  const runs = histogram(
    'accepted_attempt_duration_seconds',
    'Duration of an attempt, until it has settled or failed',
    ['operation'],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600],
  )
  const waits = histogram(
    'accepted_job_wait_seconds',
    'Time from when a job was due until it was claimed',
    ['operation'],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600],
  )
  const retries = counter(
    'accepted_transactions_retried_total',
    'Transactions that ran again, after contention or an outage, or in halves after a batch failed',
    ['operation', 'reason'],
  )
  const abandonFailures = counter(
    'accepted_abandon_failures_total',
    'Calls of abandon that failed for a job, so that the job does not end yet',
    ['operation'],
  )
  registry.labeledGauge('accepted_jobs_running', 'Jobs that this process holds', ['operation'], function () {
    for (const operation of operations) this.set({ operation }, options.running(operation))
  })
  const listenerHelp = '1 while notifications arrive; 0 while only polling finds work'
  registry.gauge('accepted_listener_up', listenerHelp, () => (options.isListening() ? 1 : 0), 'min')
  const updateBacklog = createBacklogGauges(database, operations, registry)

  return {
    countOutcomes(operation, counts) {
      for (const [outcome, jobs] of Object.entries(counts)) outcomes.inc({ operation, outcome }, jobs)
    },
    observeRun(operation, seconds, jobs) {
      for (let job = 0; job < jobs; job++) runs.observe({ operation }, seconds)
    },
    observeWait: (operation, seconds) => waits.observe({ operation }, seconds),
    countRetry: (operation, reason) => retries.inc({ operation, reason }),
    countAbandonFailure: (operation) => abandonFailures.inc({ operation }),
    async values() {
      await updateBacklog()
      return registry.values()
    },
    async text() {
      await updateBacklog()
      return registry.text()
    },
  }
}

/**
 * Creates the backlog gauges. Their values are cached for 5 seconds, so that frequent scrapes cost Postgres little. The
 * gauges are left out while Postgres does not answer within a second.
 *
 * @returns a function that updates the gauges; call it at each scrape
 */
function createBacklogGauges(
  database: Database,
  operations: readonly string[],
  { labeledGauge }: MetricsRegistry,
): () => Promise<void> {
  const ready = labeledGauge(
    'accepted_jobs_ready',
    'Jobs that are due and that no worker has claimed; counted every 15 seconds',
    ['operation'],
    undefined,
    'max',
  )
  const age = labeledGauge(
    'accepted_oldest_ready_job_age_seconds',
    'How long the oldest of the next thousand jobs in line has been due; 0 when no job is due',
    ['operation'],
    undefined,
    'max',
  )
  let reading: Promise<void> | undefined
  let readAt = Number.NEGATIVE_INFINITY
  const reset = () => {
    ready.reset()
    age.reset()
  }
  const read = async () => {
    try {
      for (const { operation, ...backlog } of await readBacklog(database, operations)) {
        ready.set({ operation }, backlog.ready)
        age.set({ operation }, backlog.oldestAgeSeconds)
      }
      readAt = performance.now()
    } catch {
      reset()
    }
    reading = undefined
  }
  return async () => {
    if (performance.now() - readAt < backlogCacheMs) return
    reading ??= read()
    if (!(await settledWithin(reading, backlogTimeoutMs))) reset()
  }
}
