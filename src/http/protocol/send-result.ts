import type { FastifyReply } from 'fastify'
import { problems } from '../../errors.ts'
import type { Job } from '../../jobs/job.ts'
import { toAbsoluteUrl } from '../../jobs/monitor.ts'
import type { Service } from '../service.ts'
import { linkToJob, monitorOf } from './links.ts'
import { problemMediaType, toProblem } from './problem.ts'

/** Answers with the resource, the inline result or the error of a job. Answers 202 while the job is pending. */
export function sendResult(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  switch (job.status) {
    case 'queued':
    case 'running':
      return linkToJob(service, reply, job).send(monitorOf(service, reply.request, job))
    case 'succeeded':
      if (job.resource !== null) return reply.redirect(toAbsoluteUrl(job.resource, service.siteOf(reply.request)), 303)
      if (job.result === null) return reply.code(204).send()
      // Fastify must not serialise the result. It would send a string without quotes. It would also apply the response
      // schema of the route, which may be the schema of the monitor document.
      return reply.code(200).type('application/json; charset=utf-8').send(JSON.stringify(job.result))
    case 'failed':
      return sendJobProblem(service, reply, job, job.error?.status ?? problems['job-failed'].status)
    case 'canceled':
      return sendJobProblem(service, reply, job, problems['operation-canceled'].status)
  }
}

/** Answers with problem details for a failed or canceled job. The member `job` is its monitor document. */
function sendJobProblem(service: Service, reply: FastifyReply, job: Job, status: number): FastifyReply {
  const code = job.status === 'failed' ? 'job-failed' : 'operation-canceled'
  const { title } = problems[code]
  const monitor = monitorOf(service, reply.request, job)
  const message = monitor.error?.message ?? title
  const problem = toProblem({ code, title, message, request: reply.request })
  return reply
    .code(status)
    .type(problemMediaType)
    .send({ ...problem, error: monitor.error ?? problem.error, job: monitor })
}
