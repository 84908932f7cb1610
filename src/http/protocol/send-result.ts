import type { FastifyReply } from 'fastify'
import { problems } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import { toAbsoluteUrl } from '../../jobs/monitor.ts'
import type { Service } from '../service.ts'
import { linkToJob, monitorOf } from './links.ts'
import { pathOf, problemMediaType, toProblem } from './problem.ts'

/** Answers with the result of a job: the resource, the inline result, the error, or 202 while the job is pending. */
export function sendResult(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  switch (job.status) {
    case 'queued':
    case 'running':
      return linkToJob(service, reply, job).send(monitorOf(service, reply.request, job))
    case 'succeeded':
      if (job.resource !== null)
        return reply.redirect(toAbsoluteUrl(job.resource, service.originOf(reply.request)), 303)
      if (job.result === null) return reply.code(204).send()
      // Serialised here: Fastify would send a string as it is, and apply the route's schema, which may be that of a
      // monitor.
      return reply.code(200).type('application/json; charset=utf-8').send(JSON.stringify(job.result))
    case 'failed':
      return sendJobProblem(service, reply, job, job.error?.status ?? problems['job-failed'].status)
    case 'canceled':
      return sendJobProblem(service, reply, job, problems['operation-canceled'].status)
  }
}

/** Answers for a job that failed or was canceled: problem details with its error, and its monitor as the member `job`. */
function sendJobProblem(service: Service, reply: FastifyReply, job: Job, status: number): FastifyReply {
  const code = job.status === 'failed' ? 'job-failed' : 'operation-canceled'
  const { title } = problems[code]
  const problem = toProblem({ code, title, message: job.error?.message ?? title, instance: pathOf(reply.request) })
  const monitor = monitorOf(service, reply.request, job)
  return reply
    .code(status)
    .type(problemMediaType)
    .send({ ...problem, error: monitor.error ?? problem.error, job: monitor })
}
