import type { FastifyInstance, FastifyReply } from 'fastify'
import { cancel } from '../../connect/cancel.ts'
import { retry } from '../../connect/retry.ts'
import { ProblemError } from '../../errors.ts'
import { hasOtherChildren } from '../../jobs/list.ts'
import { batchName } from '../../operation.ts'
import { visibleJobs } from '../access.ts'
import { recordCommitted } from '../protocol/committed.ts'
import { etagOf, matchesStrongly } from '../protocol/etag.ts'
import { findRequestedJob, JobParams, type JobRequest, jobNotFound } from '../protocol/find-job.ts'
import { acceptForms } from '../protocol/forms.ts'
import { requestHeaders } from '../protocol/headers.ts'
import { idempotencyOf, sendOutcome } from '../protocol/idempotency.ts'
import { ignoreBodies } from '../protocol/json.ts'
import { linkToJob, monitorOf } from '../protocol/links.ts'
import { jobLinks } from '../protocol/openapi.ts'
import {
  acceptedHeaders,
  endedResponse,
  monitorResponse,
  problemResponses,
  resourceResponse,
} from '../protocol/schemas.ts'
import { traceRequest } from '../protocol/trace-request.ts'
import type { Service } from '../service.ts'

const cancelSchema = (operationId: string) => ({
  summary: 'Cancel a job',
  description:
    'Cancels a queued job immediately (200). For a running job, requests the cancellation (202): the signal of the ' +
    'handler aborts.',
  operationId,
  tags: ['jobs'],
  params: JobParams,
  headers: requestHeaders('if-match'),
  response: {
    200: monitorResponse('The job was canceled by this request or by an earlier request', { headers: ['ETag'] }),
    202: monitorResponse('The job is running, and its cancellation is requested', {
      headers: [...acceptedHeaders, 'ETag'],
    }),
    ...problemResponses('forbidden', 'not-found', 'job-expired', 'job-ended', 'precondition-failed', 'job-locked'),
  },
})

const retrySchema = (service: Service) => ({
  summary: 'Retry a failed or canceled job, as a new job',
  operationId: 'retryJob',
  tags: ['jobs'],
  params: JobParams,
  headers: requestHeaders('prefer', 'idempotency-key', 'traceparent', 'tracestate'),
  response: {
    200: endedResponse(...service.operations.values()),
    202: monitorResponse('The new job', { headers: acceptedHeaders }),
    303: resourceResponse(),
    ...problemResponses(
      ...([
        'not-found',
        'job-expired',
        'job-not-retryable',
        'job-locked',
        'backlog-full',
        'principal-backlog-full',
      ] as const),
      ...(['invalid-idempotency-key', 'idempotency-key-locked', 'idempotency-key-reused'] as const),
    ),
  },
})

/** Adds the routes that cancel or retry a job. */
export function cancelAndRetryRoutes(app: FastifyInstance, service: Service): void {
  app.register(async (scope) => {
    ignoreBodies(scope)
    acceptForms(scope, service)
    const { jobs } = service.paths
    const cancelHandler = (request: JobRequest, reply: FastifyReply) => handleCancel(service, request, reply)
    const retryHandler = (request: JobRequest, reply: FastifyReply) => handleRetry(service, request, reply)
    const config = { action: 'cancel', acceptsForm: true } as const
    scope.post<{ Params: { id: string } }>(
      `${jobs}/:id/cancel`,
      { config, schema: cancelSchema('cancelJob') },
      cancelHandler,
    )
    scope.delete<{ Params: { id: string } }>(
      `${jobs}/:id`,
      { config, schema: cancelSchema('deleteJob') },
      cancelHandler,
    )
    scope.post<{ Params: { id: string } }>(
      `${jobs}/:id/retry`,
      { config: { action: 'retry', acceptsForm: true }, schema: retrySchema(service), links: { 202: jobLinks } },
      retryHandler,
    )
  })
}

async function handleCancel(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  // Refuses malformed, expired and unknown ids before a lock is taken.
  const { id, operation } = await findRequestedJob(service, request)
  if (operation === batchName) await assertMayCancelBatch(service, request, id)
  const ifMatch = request.headers['if-match']
  const cancellation = await cancel(service, {
    ...{ id, filter: visibleJobs(request), actor: request },
    isExpected: (sequence) => matchesStrongly(ifMatch, etagOf({ sequence })),
  })
  if (cancellation.kind === 'unknown') throw jobNotFound()
  const { job } = cancellation
  if (cancellation.kind === 'requested' || cancellation.kind === 'canceled') {
    recordCommitted(reply, {
      ...{ job, status: cancellation.kind === 'requested' ? 202 : 200 },
      link: () => cancellation.kind === 'requested' && linkToJob(service, reply, job),
      monitor: () => monitorOf(service, request, job),
    })
  }
  switch (cancellation.kind) {
    case 'changed':
      throw new ProblemError('precondition-failed', `The current ETag of the job is ${etagOf(job)}`)
    case 'too-late':
      throw new ProblemError('job-ended', `The job has already ${job.status} and cannot be canceled`)
    case 'requested':
      return linkToJob(service, reply, job)
        .header('etag', etagOf(job))
        .send(monitorOf(service, request, job))
    case 'canceled':
      return reply
        .headers({ etag: etagOf(job), 'cache-control': 'private, no-cache' })
        .send(monitorOf(service, request, job))
  }
}

/**
 * The cancellation of a batch cancels its jobs, also those that the caller's key does not permit.
 *
 * @throws ProblemError forbidden
 */
async function assertMayCancelBatch({ database }: Service, { operations }: JobRequest, id: string): Promise<void> {
  if (!operations || !(await hasOtherChildren(database.kysely, id, operations))) return
  throw new ProblemError('forbidden', 'The batch has jobs of operations that the key of the request does not permit')
}

async function handleRetry(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  const outcome = await retry(service, {
    job: await findRequestedJob(service, request),
    owner: visibleJobs(request).principal,
    principal: request.principal,
    idempotency: idempotencyOf(request, { includeBody: false }),
    actor: request,
    trace: (message, send) => traceRequest(service, request, message, send),
  })
  return sendOutcome(service, reply, outcome)
}
