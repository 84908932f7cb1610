import type { FastifyInstance } from 'fastify'
import { Counter, Histogram } from 'prom-client'
import { createRegistry, metricsMediaType } from '../metrics.ts'
import type { Service } from './service.ts'

/** What a process tells of itself to Prometheus. */
export interface Metrics {
  /** Every request of the scope is measured. */
  measure(scope: FastifyInstance): void
  /** A request became a job, or was a repetition of one that had. */
  countAccepted(operation: string, outcome: 'accepted' | 'replayed'): void
}

/** Serves `GET /metrics`. */
export function metricsRoute(app: FastifyInstance, { database, watcher, streams }: Service): Metrics {
  const { registers, gauge, text } = createRegistry(database.pool)
  const requests = new Histogram({
    name: 'accepted_http_request_duration_seconds',
    help: 'Time from a request to the end of its answer, long polls included',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 60],
    registers,
  })
  const accepted = new Counter({
    name: 'accepted_requests_total',
    help: 'Requests that became a job, or were repetitions of one that had',
    labelNames: ['operation', 'outcome'],
    registers,
  })
  gauge('accepted_event_streams', 'Open streams of server-sent events', () => streams.count())
  gauge('accepted_watched_jobs', 'Jobs that somebody waits for', () => watcher.count().jobs)
  gauge('accepted_watched_principals', 'Principals whose every job somebody follows', () => watcher.count().principals)

  app.get('/metrics', { schema: { hide: true } }, async (_request, reply) =>
    reply.headers({ 'content-type': metricsMediaType, 'cache-control': 'no-store' }).send(await text()),
  )
  return {
    measure(scope) {
      scope.addHook('onResponse', ({ method, routeOptions }, { statusCode, elapsedTime }, done) => {
        requests.observe({ method, route: routeOptions.url ?? '', status: statusCode }, elapsedTime / 1000)
        done()
      })
    },
    countAccepted: (operation, outcome) => accepted.inc({ operation, outcome }),
  }
}
