import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { ProblemError, problems } from '../errors.ts'
import type { Job } from '../jobs/job.ts'
import { absolute, Monitor, retryAfterSeconds, toMonitor } from '../jobs/monitor.ts'
import { findJob } from '../jobs/read.ts'
import type { Service } from './accepted.ts'
import { linkToJob } from './links.ts'
import { Problem, pathOf, problemMediaType, problemResponse, problemResponses, toProblem } from './problem.ts'

/** Problem details of a job that did not succeed. */
const Ended = Type.Object({ ...Problem.properties, job: Type.Optional(Monitor) }, { title: 'Ended' })

const params = Type.Object({ id: Type.String({ description: 'The id of the job' }) })

/** The two addresses of a job: the monitor, 200 as long as the record exists, and the result, where the job led. */
export function statusRoutes(app: FastifyInstance, service: Service): void {
  app.get<{ Params: { id: string } }>(
    '/jobs/:id',
    {
      schema: {
        summary: 'The status of a job',
        operationId: 'getJob',
        tags: ['jobs'],
        params,
        response: { 200: Monitor, 304: Type.Null({ description: 'Unchanged' }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const job = await find(service, request)
      const etag = `"${job.sequence}"`
      describe(reply, job).header('etag', etag)
      if (matches(request.headers['if-none-match'], etag)) return reply.code(304).send()
      return reply.send(toMonitor(job, service.originOf(request)))
    },
  )
  app.get<{ Params: { id: string } }>(
    '/jobs/:id/result',
    {
      schema: {
        summary: 'Where a job led',
        description:
          '202 while the job is pending; then 303 to the resource, or the inline result, or why there is none.',
        operationId: 'getJobResult',
        tags: ['jobs'],
        params,
        response: {
          200: Type.Unknown({ description: 'Succeeded: the inline result' }),
          202: Monitor,
          204: Type.Null({ description: 'Succeeded: neither resource nor result' }),
          303: Type.Null({ description: 'Succeeded: Location is the resource' }),
          ...problemResponses,
          '4xx': problemResponse('Failed or canceled, with the job; or there is none', Ended),
        },
      },
    },
    async (request, reply) => sendResult(request, reply, await find(service, request), service.originOf(request)),
  )
}

async function find({ database }: Service, request: FastifyRequest<{ Params: { id: string } }>): Promise<Job> {
  const found = await findJob(database.kysely, request.params.id, request.principal)
  if (found === 'unknown') throw new ProblemError('not-found', 'There is no such job, or it is not yours')
  if (found === 'expired') throw new ProblemError('job-expired')
  return found.job
}

function describe(reply: FastifyReply, job: Job): FastifyReply {
  const seconds = retryAfterSeconds(job)
  if (seconds !== undefined) reply.header('retry-after', seconds)
  return reply.headers({ 'cache-control': 'private, no-cache', vary: 'Accept, Prefer, Authorization' })
}

/** If-None-Match, RFC 9110, section 13.1.2: a list of tags, compared weakly, or anything. */
function matches(condition: string | undefined, etag: string): boolean {
  if (!condition) return false
  return condition.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}

function sendResult(request: FastifyRequest, reply: FastifyReply, job: Job, origin: string): FastifyReply {
  describe(reply, job)
  switch (job.state) {
    case 'queued':
    case 'running':
      return linkToJob(reply, job, origin).send(toMonitor(job, origin))
    case 'succeeded':
      if (job.resource !== null) return reply.redirect(absolute(job.resource, origin), 303)
      return job.result === null ? reply.code(204).send() : reply.send(job.result)
    case 'failed':
      return sendEnd(request, reply, job, origin, job.error?.status ?? problems['job-failed'].status)
    case 'canceled':
      return sendEnd(request, reply, job, origin, problems['operation-canceled'].status)
  }
}

/** A job that did not succeed: problem details with its error, and its monitor as the member `job`. */
function sendEnd(request: FastifyRequest, reply: FastifyReply, job: Job, origin: string, status: number): FastifyReply {
  const code = job.state === 'failed' ? 'job-failed' : 'operation-canceled'
  const { title } = problems[code]
  const problem = toProblem({ code, title, message: job.error?.message ?? title, instance: pathOf(request) })
  const monitor = toMonitor(job, origin)
  return reply
    .code(status)
    .type(problemMediaType)
    .send({ ...problem, error: monitor.error ?? problem.error, job: monitor })
}
