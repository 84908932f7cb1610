import {
  type Aggregator,
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricValue,
  Registry,
} from 'prom-client'

/** The media type of {@link MetricsRegistry.text}. */
export const metricsMediaType = Registry.PROMETHEUS_CONTENT_TYPE

/** A metric with its values, which a process can send to another process. */
export interface MetricValues {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'histogram' | 'summary'
  /** How {@link sumMetrics} combines the values of several processes. */
  aggregator: Aggregator
  values: MetricValue<string>[]
}

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
  /**
   * @param collect called before the metrics are collected, with the gauge as `this`
   * @param aggregator how {@link sumMetrics} combines the gauges of several processes; default: `sum`
   */
  labeledGauge<Label extends string>(
    name: string,
    help: string,
    labels: readonly Label[],
    collect?: (this: Gauge<Label>) => void,
    aggregator?: Aggregator,
  ): Gauge<Label>
  /** Adds a gauge. `value` is called when the metrics are collected. */
  gauge(name: string, help: string, value: () => number, aggregator?: Aggregator): void
  /** Adds a function that updates gauges. It runs each time before the metrics are read. */
  beforeRead(update: () => Promise<void>): void
  /** Returns all metrics with their values. */
  values(): Promise<MetricValues[]>
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
  const updates: (() => Promise<void>)[] = []
  const update = () => Promise.all(updates.map((one) => one()))
  const registry: MetricsRegistry = {
    counter: (name, help, labelNames) => new Counter({ name, help, labelNames, registers }),
    histogram: (name, help, labelNames, buckets) =>
      new Histogram({ name, help, labelNames, buckets: [...buckets], registers }),
    labeledGauge: (name, help, labelNames, collect, aggregator = 'sum') =>
      new Gauge({ name, help, labelNames, registers, aggregator, ...(collect && { collect }) }),
    gauge: (name, help, value, aggregator = 'sum') =>
      void new Gauge({
        ...{ name, help, registers, aggregator },
        collect() {
          this.set(value())
        },
      }),
    beforeRead: (one) => void updates.push(one),
    async values() {
      await update()
      // The types of prom-client say that the type is a number.
      return (await register.getMetricsAsJSON()) as unknown as MetricValues[]
    },
    async text() {
      await update()
      return register.metrics()
    },
  }
  registry.gauge('accepted_pool_connections', 'Connections to Postgres in the pool', () => pool.totalCount)
  registry.gauge('accepted_pool_idle', 'Idle connections in the pool', () => pool.idleCount)
  registry.gauge('accepted_pool_waiting', 'Statements waiting for a connection', () => pool.waitingCount)
  return registry
}

/** Sums the metrics of several processes. Each gauge says whether it is summed, or which of its values counts. */
export const sumMetrics = (processes: readonly MetricValues[][]): MetricValues[] =>
  // An aggregated metric has its values as a property, unlike other metrics.
  (AggregatorRegistry.aggregate([...processes]).getMetricsAsArray() as unknown as MetricValues[]).map(
    ({ name, help, type, aggregator, values }) => ({ name, help, type, aggregator, values }),
  )

/** Returns metrics in the Prometheus text format. */
export const metricsText = (metrics: MetricValues[]): Promise<string> =>
  AggregatorRegistry.aggregate([metrics]).metrics()
