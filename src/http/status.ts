import type { FastifyInstance, FastifyReply } from 'fastify'
import Type from 'typebox'
import { problems } from '../errors.ts'
import type { Job } from '../jobs/job.ts'
import { absolute, Monitor } from '../jobs/monitor.ts'
import { isFinal } from '../jobs/state.ts'
import { streamJob } from './events.ts'
import { findRequested, JobParams, type JobRequest } from './find-job.ts'
import { linkToJob, monitorOf, retryAfterOf } from './links.ts'
import { negotiate } from './negotiate.ts'
import { jobLinks } from './openapi.ts'
import { sendPage } from './page.ts'
import { parsePrefer, preferenceApplied } from './prefer.ts'
import { Problem, pathOf, problemMediaType, toProblem } from './problem.ts'
import { readsHeaders } from './request-headers.ts'
import {
  acceptedHeaders,
  alsoWith,
  type HeaderField,
  withBody,
  withMonitor,
  withoutBody,
  withProblems,
} from './responses.ts'
import type { Service } from './service.ts'
import { waitFor } from './wait.ts'

/** Problem details of a job that did not succeed. */
const Ended = Type.Object({ ...Problem.properties, job: Type.Optional(Monitor) }, { title: 'Ended' })

const resultHeaders = ['Preference-Applied', 'Vary'] as const satisfies HeaderField[]

/** A handler may choose any 4xx, also one that says something else here: then there is no job in it. */
const mayBeEnds = <Responses extends object>(responses: Responses) =>
  Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [
      status,
      status.startsWith('4') ? { ...response, content: { 'application/problem+json': { schema: Ended } } } : response,
    ]),
  )

/** The two addresses of a job: the monitor, 200 as long as the record exists, and the result, where the job led. */
export function statusRoutes(app: FastifyInstance, service: Service): void {
  app.get<{ Params: { id: string } }>(
    '/jobs/:id',
    {
      schema: {
        summary: 'The status of a job',
        operationId: 'getJob',
        tags: ['jobs'],
        params: JobParams,
        headers: readsHeaders('prefer', 'if-none-match'),
        response: {
          200: {
            ...withMonitor('The status, as JSON, as a live page, or as a stream of events', {
              headers: ['ETag', 'Retry-After', 'Preference-Applied', 'Vary'],
            }),
            content: {
              'application/json': { schema: Monitor },
              'text/html': { schema: Type.String() },
              'text/event-stream': { schema: Type.String() },
            },
          },
          204: withoutBody('To a stream whose end was told already', { headers: ['Vary'] }),
          304: withoutBody('The ETag is still current', {
            headers: ['ETag', 'Retry-After', 'Preference-Applied', 'Vary'],
          }),
          ...alsoWith(['Vary'], withProblems('not-found', 'job-expired')),
        },
      },
      links: { 200: jobLinks },
    },
    async (request, reply) => {
      reply.header('vary', 'Accept, Prefer, Authorization')
      const type = negotiate(request, ['application/json', 'text/html', 'text/event-stream'])
      if (type === 'text/event-stream') return streamJob(service, request, reply)
      if (type === 'text/html') return sendPage(service, reply, await findRequested(service, request))
      return sendMonitor(service, request, reply)
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
        params: JobParams,
        headers: readsHeaders('prefer'),
        response: {
          200: withBody('Succeeded: the inline result', 'application/json', Type.Unknown(), { headers: resultHeaders }),
          202: withMonitor('Pending', { headers: [...acceptedHeaders, 'Vary'] }),
          204: withoutBody('Succeeded: neither resource nor result', { headers: resultHeaders }),
          303: withoutBody('Succeeded: the resource', { headers: ['Location', ...resultHeaders] }),
          ...mayBeEnds(
            alsoWith(resultHeaders, withProblems('not-found', 'job-expired', 'operation-canceled', 'job-failed')),
          ),
          '4xx': withBody('Failed, with the status that its handler chose', 'application/problem+json', Ended, {
            headers: resultHeaders,
          }),
        },
      },
      links: { 202: jobLinks },
    },
    async (request, reply) => {
      reply.header('vary', 'Accept, Prefer, Authorization')
      negotiate(request, ['application/json'])
      const wait = waitOf(request)
      const job = await waitFor(service, reply, {
        id: request.params.id,
        seconds: wait ?? 0,
        read: () => findRequested(service, request),
        isOver: hasEnded,
      })
      reply.headers({ 'cache-control': 'private, no-cache', ...preferenceApplied(wait === undefined ? {} : { wait }) })
      return sendResult(service, reply, job)
    },
  )
}

const hasEnded = ({ state }: Job) => isFinal(state)

/** HEAD never waits. */
const waitOf = ({ method, headers }: JobRequest): number | undefined =>
  method === 'HEAD' ? undefined : parsePrefer(headers.prefer).wait

/** Held while `Prefer: wait` says so: with If-None-Match until there is another status, else until the end. */
async function sendMonitor(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  const wait = waitOf(request)
  const condition = request.headers['if-none-match']
  const isKnown = (job: Job) => condition !== undefined && matches(condition, etagOf(job))
  const job = await waitFor(service, reply, {
    id: request.params.id,
    seconds: wait ?? 0,
    read: () => findRequested(service, request),
    isOver: (one) => hasEnded(one) || (condition !== undefined && !isKnown(one)),
  })
  reply.headers({
    etag: etagOf(job),
    'cache-control': 'private, no-cache',
    ...retryAfterOf(service, job),
    ...preferenceApplied(wait === undefined ? {} : { wait }),
  })
  if (isKnown(job)) return reply.code(304).send()
  return reply.send(monitorOf(service, request, job))
}

/** The entity tag of a job's JSON. */
export const etagOf = (job: Pick<Job, 'sequence'>): string => `"${job.sequence}"`

/** Whether a list of entity tags has one, compared weakly, or is `*` (RFC 9110, sections 8.8.3.2 and 13.1.2). */
function matches(condition: string, etag: string): boolean {
  return condition.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}

/** Where the job led: the answer of its result address, and of a submit that waited for it. */
export function sendResult(service: Service, reply: FastifyReply, job: Job): FastifyReply {
  switch (job.state) {
    case 'queued':
    case 'running':
      return linkToJob(service, reply, job).send(monitorOf(service, reply.request, job))
    case 'succeeded':
      if (job.resource !== null) return reply.redirect(absolute(job.resource, service.originOf(reply.request)), 303)
      if (job.result === null) return reply.code(204).send()
      // As text already: it may be a JSON string, and is not of the shape that the route declares for a monitor.
      return reply.code(200).type('application/json; charset=utf-8').send(JSON.stringify(job.result))
    case 'failed':
      return sendEnd(service, reply, job, job.error?.status ?? problems['job-failed'].status)
    case 'canceled':
      return sendEnd(service, reply, job, problems['operation-canceled'].status)
  }
}

/** A job that did not succeed: problem details with its error, and its monitor as the member `job`. */
function sendEnd(service: Service, reply: FastifyReply, job: Job, status: number): FastifyReply {
  const code = job.state === 'failed' ? 'job-failed' : 'operation-canceled'
  const { title } = problems[code]
  const problem = toProblem({ code, title, message: job.error?.message ?? title, instance: pathOf(reply.request) })
  const monitor = monitorOf(service, reply.request, job)
  return reply
    .code(status)
    .type(problemMediaType)
    .send({ ...problem, error: monitor.error ?? problem.error, job: monitor })
}
