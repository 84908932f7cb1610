import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** The media type of {@link MetricsRegistry.text}. */
export const metricsMediaType = Registry.PROMETHEUS_CONTENT_TYPE

/** The metrics of a process. Each metric has a name and a help text, as in Prometheus. */
export interface MetricsRegistry {
  counter<Label extends string>(name: string, help: string, labels: readonly Label[]): Counter<Label>
  /** @param buckets the upper bounds of the buckets, in the unit of the metric */
  histogram<Label extends string>(
    name: string,
    help: string,
    labels: readonly Label[],
    buckets: readonly number[],
  ): Histogram<Label>
  /** @param collect called before the metrics are collected, with the gauge as `this` */
  labeledGauge<Label extends string>(
    name: string,
    help: string,
    labels: readonly Label[],
    collect?: (this: Gauge<Label>) => void,
  ): Gauge<Label>
  /** Adds a gauge. `value` is called when the metrics are collected. */
  gauge(name: string, help: string, value: () => number): void
  /** Returns all metrics in the Prometheus text format. */
  text(): Promise<string>
}

/** The connection counts of a `pg.Pool`. */
export interface PoolCounts {
  readonly totalCount: number
  readonly idleCount: number
  readonly waitingCount: number
}

/** Creates a registry with the metrics of the process and of its pool. It is separate from a registry of the app. */
export function createRegistry(pool: PoolCounts): MetricsRegistry {
  const register = new Registry()
  // The default precision would wake an idle process a hundred times a second.
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: 100 })
  const registers = [register]
  const registry: MetricsRegistry = {
    counter: (name, help, labelNames) => new Counter({ name, help, labelNames, registers }),
    histogram: (name, help, labelNames, buckets) =>
      new Histogram({ name, help, labelNames, buckets: [...buckets], registers }),
    labeledGauge: (name, help, labelNames, collect) =>
      new Gauge({ name, help, labelNames, registers, ...(collect && { collect }) }),
    gauge: (name, help, value) =>
      void new Gauge({
        ...{ name, help, registers },
        collect() {
          this.set(value())
        },
      }),
    text: () => register.metrics(),
  }
  registry.gauge('accepted_pool_connections', 'Connections to Postgres in the pool', () => pool.totalCount)
  registry.gauge('accepted_pool_idle', 'Idle connections in the pool', () => pool.idleCount)
  registry.gauge('accepted_pool_waiting', 'Statements waiting for a connection', () => pool.waitingCount)
  return registry
}
