import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'

/** The media type of {@link MetricsRegistry.text}. */
export const metricsMediaType = Registry.PROMETHEUS_CONTENT_TYPE

/** The metrics of a process. */
export interface MetricsRegistry {
  /** For prom-client's counters and histograms. */
  registers: [Registry]
  /** Adds a gauge that reads its value when the metrics are collected. */
  gauge(name: string, help: string, value: () => number): void
  /** All metrics in the Prometheus text format. */
  text(): Promise<string>
}

/** The connection counts of a `pg.Pool`. */
export interface PoolCounts {
  readonly totalCount: number
  readonly idleCount: number
  readonly waitingCount: number
}

/** Creates a registry with the metrics of the process and of its pool, separate from one that the app may have. */
export function createRegistry(pool: PoolCounts): MetricsRegistry {
  const register = new Registry()
  // A finer precision would wake an idle process a hundred times a second.
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: 100 })
  const registers: [Registry] = [register]
  const gauge = (name: string, help: string, value: () => number) =>
    void new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value())
      },
    })
  gauge('accepted_pool_connections', 'Connections to Postgres in the pool', () => pool.totalCount)
  gauge('accepted_pool_idle', 'Idle connections in the pool', () => pool.idleCount)
  gauge('accepted_pool_waiting', 'Statements waiting for a connection', () => pool.waitingCount)
  return { registers, gauge, text: () => register.metrics() }
}
