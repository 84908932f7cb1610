import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Job } from '../jobs/job.ts'
import { type Monitor, monitorPath, resultPath, retryAfterSeconds, toMonitor } from '../jobs/monitor.ts'
import type { Service } from './service.ts'

/** The representation of a job for a request. */
export const monitorOf = (service: Service, request: FastifyRequest, job: Job): Monitor =>
  toMonitor(job, service.originOf(request), service.estimates.of(job))

/** `Retry-After` as long as the job is pending. */
export function retryAfterOf({ estimates }: Service, job: Job): Record<string, number> {
  const seconds = retryAfterSeconds(job, estimates.of(job))
  return seconds === undefined ? {} : { 'retry-after': seconds }
}

/** The headers of a 202 that lead to the job. */
export function linkToJob(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  const origin = service.originOf(reply.request)
  return reply.code(202).headers({
    'operation-location': origin + monitorPath(job.id),
    'content-location': origin + monitorPath(job.id),
    location: origin + resultPath(job.id),
    // A 202 always has one, also when the job of a repeated request has ended by now.
    'retry-after': 1,
    ...retryAfterOf(service, job),
    'cache-control': 'no-store',
  })
}
