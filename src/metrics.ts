import type pg from 'pg'
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'

/** The media type of what a {@link MetricsRegistry} tells. */
export const metricsMediaType = Registry.PROMETHEUS_CONTENT_TYPE

/** What a process counts. */
export interface MetricsRegistry {
  /** For what is counted here. */
  registers: [Registry]
  /** A gauge whose value is looked up when it is asked for. */
  gauge(name: string, help: string, value: () => number): void
  /** Everything, in Prometheus' text format. */
  text(): Promise<string>
}

/** Makes a registry with what every process tells of itself and of its pool: one's own, so that an app may have one, too. */
export function createRegistry(pool: pg.Pool): MetricsRegistry {
  const register = new Registry()
  // A finer one wakes a process that has nothing to do a hundred times a second.
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
  gauge('accepted_pool_idle', 'Connections in the pool that nobody uses', () => pool.idleCount)
  gauge('accepted_pool_waiting', 'Statements that wait for a connection', () => pool.waitingCount)
  return { registers, gauge, text: () => register.metrics() }
}
