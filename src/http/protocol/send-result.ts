import type { FastifyReply } from 'fastify'
import type { Job } from '../../jobs/job.ts'
import { toAbsoluteUrl } from '../../jobs/monitor.ts'
import { problems } from '../../problems.ts'
import type { Service } from '../service.ts'
import { linkToJob, monitorOf, resultFor } from './links.ts'
import { problemMediaType, toProblem } from './problem.ts'
import { sendFromWholeJob, sendMonitor } from './send-monitor.ts'

/** Answers with the resource, the inline result or the error of a job. Answers 202 while the job is pending. */
export function sendResult(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  switch (job.status) {
    case 'queued':
    case 'running':
      return sendMonitor(service, linkToJob(service, reply, job), job)
    case 'succeeded':
      if (job.resource !== null) return reply.redirect(toAbsoluteUrl(job.resource, service.siteOf(reply.request)), 303)
      if (job.result === null && !job.is_cut) return reply.code(204).send()
      reply.code(200).type('application/json; charset=utf-8')
      if (job.is_cut) return sendFromWholeJob(service, reply, job, ({ resultJson }) => resultJson ?? 'null')
      // Fastify must not serialise the result. It would send a string without quotes. It would also apply the response
      // schema of the route, which may be the schema of the monitor document.
      return reply.send(JSON.stringify(resultFor(service, reply.request, job)))
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
  const toJson = (whole: Job) => {
    const monitor = monitorOf(service, reply.request, whole)
    const message = monitor.error?.message ?? title
    const problem = toProblem({ code, title, message, request: reply.request })
    return JSON.stringify({ ...problem, error: monitor.error ?? problem.error, job: monitor })
  }
  reply.code(status).type(problemMediaType)
  return job.is_cut ? sendFromWholeJob(service, reply, job, (whole) => toJson(whole.job)) : reply.send(toJson(job))
}
