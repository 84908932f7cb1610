import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Job } from '../../jobs/job.ts'
import { retryAfterSeconds, toMonitor } from '../../jobs/monitor.ts'
import type { Monitor } from '../../jobs/monitor-schema.ts'
import { monitorUrl, resultUrl } from '../../jobs/site.ts'
import type { Service } from '../service.ts'

/** Returns the monitor document of a job. Its links are absolute URLs. */
export const monitorOf = (service: Service, request: FastifyRequest, job: Job): Monitor =>
  toMonitor(job, service.siteOf(request), service.estimates.of(job), resultFor(service, request, job))

/** Returns the result of a job as the caller may see it. */
export const resultFor = ({ results }: Service, { principal }: FastifyRequest, job: Job): unknown =>
  results.show(job, principal, job.result)

/** Returns the header `Retry-After` for a pending job. Returns no header for a job that has ended. */
export function retryAfterOf({ estimates }: Service, job: Job): Record<string, number> {
  const seconds = retryAfterSeconds(job, estimates.of(job))
  return seconds === undefined ? {} : { 'retry-after': seconds }
}

/** Sets the HTTP status 202 and the headers that link to the job. */
export function linkToJob(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  const site = service.siteOf(reply.request)
  return reply.code(202).headers({
    'operation-location': monitorUrl(site, job.id),
    'content-location': monitorUrl(site, job.id),
    location: resultUrl(site, job.id),
    // The default for a job that has ended. A repeated request gets a 202 for such a job.
    'retry-after': 1,
    ...retryAfterOf(service, job),
    'cache-control': 'no-store',
  })
}
