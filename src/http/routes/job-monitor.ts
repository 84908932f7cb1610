import type { FastifyInstance, FastifyReply } from 'fastify'
import Type from 'typebox'
import type { Job } from '../../jobs/job.ts'
import { Monitor } from '../../jobs/monitor-schema.ts'
import { isFinal } from '../../jobs/status.ts'
import { etagOf, matchesWeakly } from '../protocol/etag.ts'
import { findRequestedJob, JobParams, type JobRequest } from '../protocol/find-job.ts'
import { requestHeaders } from '../protocol/headers.ts'
import { retryAfterOf } from '../protocol/links.ts'
import { longPoll } from '../protocol/long-poll.ts'
import { negotiate } from '../protocol/negotiate.ts'
import { jobLinks } from '../protocol/openapi.ts'
import { preferenceApplied, waitSecondsOf } from '../protocol/prefer.ts'
import { addHeaders, emptyResponse, type HeaderField, monitorResponse, problemResponses } from '../protocol/schemas.ts'
import { sendMonitor } from '../protocol/send-monitor.ts'
import type { Service } from '../service.ts'
import { streamJob } from '../streams/stream-jobs.ts'
import { sendJobPage } from './job-page.ts'

const monitorHeaders = ['ETag', 'Retry-After', 'Preference-Applied', 'Vary'] as const satisfies HeaderField[]

const monitorSchema = {
  summary: 'Get the status of a job',
  operationId: 'getJob',
  tags: ['jobs'],
  params: JobParams,
  headers: requestHeaders('prefer', 'if-none-match'),
  response: {
    200: {
      ...monitorResponse('The status as JSON, as a live page, or as a stream of events', { headers: monitorHeaders }),
      content: {
        'application/json': { schema: Monitor },
        'text/html': { schema: Type.String() },
        'text/event-stream': { schema: Type.String() },
      },
    },
    204: emptyResponse('Only for text/event-stream: the client has already received the final event', {
      headers: ['Vary'],
    }),
    304: emptyResponse('The ETag is still current', { headers: monitorHeaders }),
    ...addHeaders(['Vary'], problemResponses('not-found', 'job-expired')),
  },
}

/** Adds the monitor route of a job. It answers 200 as long as the record of the job exists. */
export function jobMonitorRoute(app: FastifyInstance, service: Service): void {
  app.get<{ Params: { id: string } }>(
    `${service.paths.jobs}/:id`,
    {
      config: { action: 'read', acceptsLink: true },
      schema: monitorSchema,
      links: { 200: jobLinks },
      exposeHeadRoute: true,
    },
    async (request, reply) => {
      reply.header('vary', 'Accept, Prefer, Authorization')
      const type = negotiate(request, ['application/json', 'text/html', 'text/event-stream'])
      if (type === 'text/event-stream') return streamJob(service, request, reply)
      if (type === 'text/html') return sendJobPage(service, request, reply)
      return answerWithMonitor(service, request, reply)
    },
  )
}

/**
 * Answers with the monitor document of a job. With `Prefer: wait`, first waits until the job ends. If the request also
 * has If-None-Match, waits only until the job changes.
 */
async function answerWithMonitor(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  const wait = waitSecondsOf(request)
  const ifNoneMatch = request.headers['if-none-match']
  const isKnown = (job: Job) => ifNoneMatch !== undefined && matchesWeakly(ifNoneMatch, etagOf(job))
  const job = await longPoll(service, reply, {
    jobId: request.params.id,
    seconds: wait ?? 0,
    read: () => findRequestedJob(service, request),
    isReady: (current) => isFinal(current.status) || (ifNoneMatch !== undefined && !isKnown(current)),
  })
  reply.headers({
    etag: etagOf(job),
    'cache-control': 'private, no-cache',
    ...retryAfterOf(service, job),
    ...preferenceApplied(wait === undefined ? {} : { wait }),
  })
  if (isKnown(job)) return reply.code(304).send()
  return sendMonitor(service, reply, job)
}
