import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Job } from '../jobs/job.ts'
import { monitorPath, resultPath, retryAfterSeconds } from '../jobs/monitor.ts'

/** Makes the function that says which origin the links of an answer have. */
export function originFrom(publicUrl: string | undefined): (request: FastifyRequest) => string {
  return (request) => publicUrl ?? `${request.protocol}://${request.host}`
}

/** The headers of a 202 that lead to the job. */
export function linkToJob(reply: FastifyReply, job: Job, origin: string): FastifyReply {
  return reply.code(202).headers({
    'operation-location': origin + monitorPath(job.id),
    'content-location': origin + monitorPath(job.id),
    location: origin + resultPath(job.id),
    'retry-after': retryAfterSeconds(job) ?? 1,
    'cache-control': 'no-store',
  })
}
