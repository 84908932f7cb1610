import type { FastifyInstance, FastifyReply } from 'fastify'
import { sql, type Transaction } from 'kysely'
import { assertBacklog } from '../../accept/backlog.ts'
import { retryJob } from '../../accept/retry-job.ts'
import { setLockTimeout, withLockTimeoutError } from '../../db/locks.ts'
import { pipeline } from '../../db/pipeline.ts'
import { useGenericPlan } from '../../db/plan-settings.ts'
import { errorCode, sqlstate } from '../../db/sqlstate.ts'
import type { Tables } from '../../db/tables.ts'
import { transact } from '../../db/transaction.ts'
import { ProblemError } from '../../errors.ts'
import { type CancelOutcome, cancelJob } from '../../jobs/cancel.ts'
import { hasOtherChildren } from '../../jobs/list.ts'
import { isFinal } from '../../jobs/status.ts'
import { type AnyTransaction, batchName } from '../../operation.ts'
import { settledWithin } from '../../primitives/timeout.ts'
import { uuid7 } from '../../primitives/uuid.ts'
import { visibleJobs } from '../access.ts'
import { setActor } from '../protocol/actor.ts'
import { passIfRepeated } from '../protocol/backlog.ts'
import { recordCommitted } from '../protocol/committed.ts'
import { etagOf, matchesStrongly } from '../protocol/etag.ts'
import { findRequestedJob, JobParams, type JobRequest, jobNotFound } from '../protocol/find-job.ts'
import { acceptForms } from '../protocol/forms.ts'
import { requestHeaders } from '../protocol/headers.ts'
import { idempotencyOf, sendAccepted } from '../protocol/idempotency.ts'
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

/** How long a request waits while another transaction locks the job. */
const lockTimeoutMs = 5_000
/** How long a request waits for `abandon`. Then the answer is 202. */
const maxAbandonMs = 5_000

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
    const cancel = (request: JobRequest, reply: FastifyReply) => handleCancel(service, request, reply)
    const retry = (request: JobRequest, reply: FastifyReply) => handleRetry(service, request, reply)
    const config = { action: 'cancel', acceptsForm: true } as const
    scope.post<{ Params: { id: string } }>(`${jobs}/:id/cancel`, { config, schema: cancelSchema('cancelJob') }, cancel)
    scope.delete<{ Params: { id: string } }>(`${jobs}/:id`, { config, schema: cancelSchema('deleteJob') }, cancel)
    scope.post<{ Params: { id: string } }>(
      `${jobs}/:id/retry`,
      { config: { action: 'retry', acceptsForm: true }, schema: retrySchema(service), links: { 202: jobLinks } },
      retry,
    )
  })
}

async function handleCancel(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  // Refuses malformed, expired and unknown ids before a lock is taken.
  const { id, operation } = await findRequestedJob(service, request)
  if (operation === batchName) await assertMayCancelBatch(service, request, id)
  const ifMatch = request.headers['if-match']
  const isExpected = (sequence: string) => matchesStrongly(ifMatch, etagOf({ sequence }))
  const cancel = () =>
    runJobTransaction(service, request, id, (trx) =>
      cancelJob(trx, { id, principal: visibleJobs(request).principal }, isExpected),
    )
  // A job that waits for its children is not locked while its status is checked, so it may have ended after the check.
  const requested = await cancel().catch((error: unknown) => {
    if (errorCode(error) === sqlstate.objectNotInPrerequisiteState) return cancel()
    throw error
  })
  const cancellation = await abandonCanceled(service, request, requested)
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

/**
 * Ends a queued job whose operation has `abandon`, after its cancellation was requested. If `abandon` fails or takes too
 * long, the job ends later.
 */
async function abandonCanceled(
  service: Service,
  request: JobRequest,
  cancellation: CancelOutcome,
): Promise<CancelOutcome> {
  if (cancellation.kind !== 'requested' || cancellation.job.status !== 'queued') return cancellation
  const { id } = cancellation.job
  const operation = service.operations.get(cancellation.job.operation)
  if (!operation?.abandon) return cancellation
  const completed = service.endings.complete(operation, id).catch((err) => {
    request.log.warn({ err, job: id }, 'The cancellation is requested, but not committed; it is committed later')
  })
  await settledWithin(completed, maxAbandonMs)
  // The request is committed, so an outage now must not turn its answer into an error.
  const job = await findRequestedJob(service, request).catch(() => undefined)
  if (job?.status === 'canceled') return { kind: 'canceled', job }
  return job && isFinal(job.status) ? { kind: 'too-late', job } : cancellation
}

async function handleRetry(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { database, operations } = service
  const job = await findRequestedJob(service, request)
  const operation = operations.get(job.operation)
  if (operation) await passIfRepeated(service, request, assertBacklog(database, operation, job.principal))
  const retry = {
    ...{ id: uuid7(), jobId: job.id },
    owner: visibleJobs(request).principal,
    principal: request.principal,
    idempotency: idempotencyOf(request, { includeBody: false }),
  }
  const message = { id: retry.id, operation: job.operation }
  const outcome = await traceRequest(service, request, message, (context) =>
    runJobTransaction(service, request, job.id, (trx) => retryJob(trx, operations, { ...retry, ...context })),
  )
  return sendAccepted(service, reply, outcome)
}

/**
 * Runs a transaction that locks a job. In this process, the transactions of one job run one after another.
 *
 * @throws ProblemError job-locked, if another transaction keeps the lock for too long
 */
function runJobTransaction<Result>(
  { database, mutex }: Service,
  request: JobRequest,
  id: string,
  work: (trx: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  const timeoutError = (cause?: unknown) => new ProblemError('job-locked', undefined, { retryAfterSeconds: 1, cause })
  return mutex.runExclusive(`job ${id}`, { timeoutMs: lockTimeoutMs, timeoutError }, () =>
    transact(database, async (trx) => {
      await pipeline(trx as unknown as AnyTransaction, (trx) => [
        sql`select ${setLockTimeout(lockTimeoutMs)}, ${setActor(request)}`.execute(trx),
        useGenericPlan(trx),
      ])
      return withLockTimeoutError(() => work(trx), timeoutError)
    }),
  )
}
