import cluster from 'node:cluster'
import type { MetricsRegistry, MetricValues } from '../../primitives/metrics-registry.ts'
import { type Answers, connectPort, type Port } from './messages.ts'

/** What a child process of `--processes` exchanges with the primary process. */
export interface Membership {
  /** Resolves when the primary process wants this process to stop. */
  stopRequested: Promise<void>
  /**
   * Tells the primary process that this process has started.
   *
   * @param health returns the state of the worker
   */
  reportReady(health?: () => string): void
  /** Lets the primary process read metrics of this process. */
  provideMetrics(values: () => Promise<MetricValues[]>): void
  /** Provides the metrics of this process, and returns a function that reads the sum over all processes. */
  shareMetrics(own: Pick<MetricsRegistry, 'values'>): () => Promise<string>
}

/** The primary process waits up to two seconds for the metrics of each process. */
const sumTimeoutMs = 4_000

/** Joins the processes of `--processes`. Returns undefined in a process that no primary process has started. */
export function joinProcesses(): Membership | undefined {
  if (!cluster.worker) return undefined
  // Otherwise the process would exit as soon as the primary process is gone, in the middle of its requests and jobs.
  cluster.worker.exitedAfterDisconnect = true
  const { promise: stopRequested, resolve: stop } = Promise.withResolvers<void>()
  const answers: Answers = { stop }
  const ask = connectPort(process as Port, answers)
  const provideMetrics = (values: () => Promise<MetricValues[]>) => {
    answers.metrics = values
  }
  return {
    stopRequested,
    provideMetrics,
    reportReady(health = () => 'ready') {
      answers.health = health
      void ask('ready')
    },
    shareMetrics(own) {
      provideMetrics(own.values)
      return async () => {
        const text = await ask('summed metrics', sumTimeoutMs)
        if (typeof text !== 'string') throw new Error('The primary process did not answer with the metrics')
        return text
      }
    },
  }
}
