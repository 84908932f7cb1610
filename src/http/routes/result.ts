import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Monitor } from '../../jobs/monitor-schema.ts'
import { isFinal } from '../../jobs/status.ts'
import { findRequestedJob, JobParams } from '../protocol/find-job.ts'
import { requestHeaders } from '../protocol/headers.ts'
import { longPoll } from '../protocol/long-poll.ts'
import { negotiate } from '../protocol/negotiate.ts'
import { jobLinks } from '../protocol/openapi.ts'
import { preferenceApplied, waitSecondsOf } from '../protocol/prefer.ts'
import { Problem } from '../protocol/problem.ts'
import {
  acceptedHeaders,
  addHeaders,
  bodyResponse,
  emptyResponse,
  type HeaderField,
  monitorResponse,
  problemResponses,
} from '../protocol/schemas.ts'
import { sendResult } from '../protocol/send-result.ts'
import type { Service } from '../service.ts'

/** Problem details of a job that failed or was canceled. */
const JobProblem = Type.Object({ ...Problem.properties, job: Type.Optional(Monitor) }, { title: 'JobProblem' })

const resultHeaders = ['Preference-Applied', 'Vary'] as const satisfies HeaderField[]

/** Allows the member `job` in every 4xx response, because the handler of a failed job may choose any 4xx status. */
const allowJobProblems = <Response extends object>(responses: Record<string, Response>) =>
  Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [
      status,
      status.startsWith('4')
        ? { ...response, content: { 'application/problem+json': { schema: JobProblem } } }
        : response,
    ]),
  )

const resultProblems = problemResponses('not-found', 'job-expired', 'operation-canceled', 'job-failed')

const resultSchema = {
  summary: 'Get the result of a job',
  description:
    'Answers 202 while the job is pending. After that, redirects to the resource (303), or answers with the inline ' +
    'result or the error.',
  operationId: 'getJobResult',
  tags: ['jobs'],
  params: JobParams,
  headers: requestHeaders('prefer'),
  response: {
    200: bodyResponse('The job succeeded. The body is its inline result.', 'application/json', Type.Unknown(), {
      headers: resultHeaders,
    }),
    202: monitorResponse('The job is pending', { headers: [...acceptedHeaders, 'Vary'] }),
    204: emptyResponse('The job succeeded, and has neither a resource nor a result', { headers: resultHeaders }),
    303: emptyResponse('The job succeeded. Location is the URL of its resource.', {
      headers: ['Location', ...resultHeaders],
    }),
    ...allowJobProblems(addHeaders(resultHeaders, resultProblems)),
    '4xx': bodyResponse(
      'The job failed, and its handler chose this HTTP status',
      'application/problem+json',
      JobProblem,
      {
        headers: resultHeaders,
      },
    ),
  },
}

/** Adds the result route of a job. It answers 202 while the job is pending, and then with the outcome of the job. */
export function resultRoute(app: FastifyInstance, service: Service): void {
  app.get<{ Params: { id: string } }>(
    `${service.paths.jobs}/:id/result`,
    {
      config: { action: 'read', acceptsLink: true },
      schema: resultSchema,
      links: { 202: jobLinks },
      exposeHeadRoute: true,
    },
    async (request, reply) => {
      reply.header('vary', 'Accept, Prefer, Authorization')
      negotiate(request, ['application/json'])
      const wait = waitSecondsOf(request)
      const job = await longPoll(service, reply, {
        jobId: request.params.id,
        seconds: wait ?? 0,
        read: () => findRequestedJob(service, request),
        isReady: ({ status }) => isFinal(status),
      })
      reply.headers({ 'cache-control': 'private, no-cache', ...preferenceApplied(wait === undefined ? {} : { wait }) })
      return sendResult(service, reply, job)
    },
  )
}
