import type { Database } from '../src/db/database.ts'
import { addDatabaseGauges } from '../src/jobs/database-metrics.ts'
import type { Operation } from '../src/operation.ts'
import { createRegistry, type MetricValues } from '../src/primitives/metrics-registry.ts'

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
  operations: readonly Operation[]
  /** Returns how many jobs of an operation this process holds. */
  running(operation: string): number
  isListening(): boolean
}

const endings = ['succeeded', 'failed', 'canceled', 'retried'] as const

/** Creates the metrics of a worker. */
export function createMetrics(database: Database, options: MetricsOptions): Metrics {
  const registry = createRegistry(database.pool)
  const { counter, histogram } = registry
  const { operations } = options
  const outcomes = counter('accepted_attempts_total', 'Attempts that ended, by outcome', ['operation', 'outcome'])
  // The first increase of a series is visible only if the series has begun at 0.
  for (const { name } of operations) {
    for (const outcome of endings) outcomes.inc({ operation: name, outcome }, 0)
  }
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
    for (const { name } of operations) this.set({ operation: name }, options.running(name))
  })
  const listenerHelp = '1 while notifications arrive; 0 while only polling finds work'
  registry.gauge('accepted_listener_up', listenerHelp, () => (options.isListening() ? 1 : 0), 'min')
  addDatabaseGauges(registry, database, operations)

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
    values: registry.values,
    text: registry.text,
  }
}
