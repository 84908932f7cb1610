import type { Logger } from 'pino'
import { type HealthServer, type Monitored, serveHealth } from '../health-server.ts'
import type { Settings } from '../settings.ts'
import { localUrl } from './local-url.ts'

/** Serves the health and the metrics of a worker on WORKER_PORT. */
export async function serveWorkerHealth(
  settings: Settings,
  log: Logger,
  worker: () => Monitored | undefined,
): Promise<HealthServer> {
  const { HOST, WORKER_PORT, METRICS_TOKEN: metricsToken } = settings
  const health = await serveHealth(HOST, WORKER_PORT, worker, { metricsToken })
  log.info(`Health and metrics are at ${localUrl(settings, health.port)}`)
  return health
}
