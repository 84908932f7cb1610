import type { FastifyInstance, FastifyRequest } from 'fastify'
import { withBuiltIn } from '../../jobs/built-in.ts'
import { addDatabaseGauges } from '../../jobs/database-metrics.ts'
import { batchName } from '../../operation.ts'
import { createRegistry, type MetricsRegistry, metricsMediaType } from '../../primitives/metrics-registry.ts'
import type { Service } from '../service.ts'

/** Provides the metrics of this process to others, and returns a function that reads the sum over all processes. */
export type ShareMetrics = (own: MetricsRegistry) => () => Promise<string>

declare module 'fastify' {
  interface FastifyInstance {
    /** Set if this process is one of several that answer requests for the metrics together. */
    shareMetrics?: ShareMetrics
  }
}

export interface RequestMetrics {
  /** Measures the duration of every request to the routes of a scope. */
  measure(scope: FastifyInstance): void
  /** Counts a request that created a job (accepted), shares a job (coalesced) or repeated an earlier request (replayed). */
  countAccepted(operation: string, outcome: 'accepted' | 'coalesced' | 'replayed'): void
}

/**
 * Adds the metrics route, which answers in the text format of Prometheus.
 *
 * @param guard refuses callers that may not read the metrics
 */
export function requestMetrics(
  app: FastifyInstance,
  service: Service,
  guard: (request: FastifyRequest) => Promise<void>,
): RequestMetrics {
  const { database, watcher, streams, paths, endings, operations } = service
  const registry = createRegistry(database.pool)
  const { counter, histogram, gauge } = registry
  const claimable = [...withBuiltIn(operations).values()].filter(({ name }) => name !== batchName)
  addDatabaseGauges(registry, database, claimable)
  const text = app.shareMetrics?.(registry) ?? registry.text
  const durations = histogram(
    'accepted_http_request_duration_seconds',
    'Time from receiving a request to the end of its response, including long polls',
    ['method', 'route', 'status'],
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 60],
  )
  const accepted = counter(
    'accepted_requests_total',
    'Requests that created a job (accepted), share a job (coalesced) or repeated an earlier request (replayed)',
    ['operation', 'outcome'],
  )
  const abandonFailures = counter(
    'accepted_abandon_failures_total',
    'Calls of abandon that failed for a job, so that the job does not end yet',
    ['operation'],
  )
  endings.onFailure = ({ name }) => abandonFailures.inc({ operation: name })
  gauge('accepted_event_streams', 'Open streams of server-sent events', () => streams.size)
  gauge('accepted_watched_jobs', 'Jobs that at least one client of this process watches', () => watcher.size.jobs)
  gauge(
    'accepted_watched_principals',
    'Principals for which at least one client of this process watches all jobs',
    () => watcher.size.principals,
  )

  if (paths.metrics) {
    app.get(paths.metrics, { schema: { hide: true }, onRequest: guard }, async (_request, reply) =>
      reply.headers({ 'content-type': metricsMediaType, 'cache-control': 'no-store' }).send(await text()),
    )
  }
  return {
    measure(scope) {
      scope.addHook('onResponse', ({ method, routeOptions }, { statusCode, elapsedTime }, done) => {
        durations.observe({ method, route: routeOptions.url ?? '', status: statusCode }, elapsedTime / 1000)
        done()
      })
    },
    countAccepted: (operation, outcome) => accepted.inc({ operation, outcome }),
  }
}
