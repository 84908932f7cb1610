import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Job } from '../../jobs/job.ts'
import { type Monitor, monitorPath, resultPath, retryAfterSeconds, toMonitor } from '../../jobs/monitor.ts'
import type { Service } from '../service.ts'

/** Returns the monitor representation of a job, with links for the origin of the request. */
export const monitorOf = (service: Service, request: FastifyRequest, job: Job): Monitor =>
  toMonitor(job, service.originOf(request), service.estimates.of(job))

/** Returns the `Retry-After` header of a pending job; no header for a job that has ended. */
export function retryAfterOf({ estimates }: Service, job: Job): Record<string, number> {
  const seconds = retryAfterSeconds(job, estimates.of(job))
  return seconds === undefined ? {} : { 'retry-after': seconds }
}

/** Sets the status 202 and the headers that lead to the job. */
export function linkToJob(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  const origin = service.originOf(reply.request)
  return reply.code(202).headers({
    'operation-location': origin + monitorPath(job.id),
    'content-location': origin + monitorPath(job.id),
    location: origin + resultPath(job.id),
    // A 202 always has Retry-After, even if a replay finds that the job has ended.
    'retry-after': 1,
    ...retryAfterOf(service, job),
    'cache-control': 'no-store',
  })
}
