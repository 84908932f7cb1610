import type { FastifyInstance, FastifyReply } from 'fastify'
import { sql, type Transaction } from 'kysely'
import { assertBacklog } from '../accept/backlog.ts'
import { retryJob } from '../accept/retry.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import type { Tables } from '../db/tables.ts'
import { transact } from '../db/transaction.ts'
import { ProblemError } from '../errors.ts'
import { cancelJob } from '../jobs/cancel.ts'
import { uuid7 } from '../uuid.ts'
import { findRequested, JobParams, type JobRequest, noSuchJob } from './find-job.ts'
import { findReplayed, idempotencyOf, traceOf } from './idempotency.ts'
import { ignoreBodies } from './json.ts'
import { linkToJob, monitorOf } from './links.ts'
import { acceptsJson } from './negotiate.ts'
import { jobLinks } from './openapi.ts'
import { readsHeaders } from './request-headers.ts'
import { acceptedHeaders, withEnd, withMonitor, withProblems, withResource } from './responses.ts'
import type { Service } from './service.ts'
import { etagOf } from './status.ts'

/** How long a request waits for a transaction that is settling the job, in milliseconds. */
const lockTimeout = 5_000

/** What a client may do to a job: cancel it, and run it again. */
export function controlRoutes(app: FastifyInstance, service: Service): void {
  app.register(async (scope) => {
    ignoreBodies(scope)
    scope.addHook('onRequest', acceptsJson)
    const cancellation = {
      schema: {
        summary: 'Cancel a job',
        description: 'One that waits is canceled at once (200); the handler of one that runs is told (202).',
        tags: ['jobs'],
        params: JobParams,
        headers: readsHeaders('if-match'),
        response: {
          200: withMonitor('Canceled, now or before', { headers: ['ETag'] }),
          202: withMonitor('It runs, and its handler is told', { headers: [...acceptedHeaders, 'ETag'] }),
          ...withProblems('not-found', 'job-expired', 'job-ended', 'precondition-failed', 'job-locked'),
        },
      },
    }
    const cancel = (request: JobRequest, reply: FastifyReply) => sendCanceled(service, request, reply)
    const operationId = (id: string) => ({ ...cancellation, schema: { ...cancellation.schema, operationId: id } })
    scope.post<{ Params: { id: string } }>('/jobs/:id/cancel', operationId('cancelJob'), cancel)
    scope.delete<{ Params: { id: string } }>('/jobs/:id', operationId('deleteJob'), cancel)
    scope.post<{ Params: { id: string } }>(
      '/jobs/:id/retry',
      {
        schema: {
          summary: 'Run a failed or canceled job again, as a new job',
          operationId: 'retryJob',
          tags: ['jobs'],
          params: JobParams,
          headers: readsHeaders('prefer', 'idempotency-key', 'traceparent'),
          response: {
            200: withEnd(...service.operations.values()),
            202: withMonitor('A new job', { headers: acceptedHeaders }),
            303: withResource(),
            ...withProblems(
              ...(['not-found', 'job-expired', 'job-not-retryable', 'job-locked', 'backlog-full'] as const),
              ...(['invalid-idempotency-key', 'idempotency-key-locked', 'idempotency-key-reused'] as const),
            ),
          },
        },
        links: { 202: jobLinks },
      },
      (request, reply) => sendRetried(service, request, reply),
    )
  })
}

async function sendCanceled(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  // Malformed, expired and unknown ids first, as everywhere.
  const { id } = await findRequested(service, request)
  const condition = request.headers['if-match']
  const isExpected = (sequence: string) => isMatch(condition, etagOf({ sequence }))
  const cancellation = await inTurn(service, id, (trx) =>
    cancelJob(service.boss, trx, { id, principal: request.principal }, isExpected),
  )
  if (cancellation.kind === 'unknown') throw noSuchJob()
  const { job } = cancellation
  switch (cancellation.kind) {
    case 'changed':
      throw new ProblemError('precondition-failed', `The ETag of the job is ${etagOf(job)} now`)
    case 'too-late':
      throw new ProblemError('job-ended', `The job has ${job.state} already and cannot be canceled`)
    case 'requested':
      service.hints.notify('cancel', [id])
      service.hints.notify('status', [id])
      return linkToJob(service, reply, job)
        .header('etag', etagOf(job))
        .send(monitorOf(service, request, job))
    case 'canceled':
      service.hints.notify('status', [id])
      service.hints.notify('work', cancellation.enqueued)
      return reply
        .headers({ etag: etagOf(job), 'cache-control': 'private, no-cache' })
        .send(monitorOf(service, request, job))
  }
}

/** Works on a job in a transaction; those who want to work on the same one take turns, and wait for its lock for a while. */
function inTurn<Result>(
  { database, turns }: Service,
  id: string,
  work: (trx: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  const onTimeout = (cause?: unknown) => new ProblemError('job-locked', undefined, { retryAfterSeconds: 1, cause })
  return turns.take(`job ${id}`, { patience: lockTimeout, onTimeout }, () =>
    transact(database, async (trx) => {
      await sql`select set_config('lock_timeout', ${String(lockTimeout)}, true)`.execute(trx)
      try {
        return await work(trx)
      } catch (error) {
        throw errorCode(error) === sqlstate.lockNotAvailable ? onTimeout(error) : error
      }
    }),
  )
}

/** If-Match (RFC 9110, section 13.1.1): `*`, or a list of tags that are compared strongly. */
function isMatch(condition: string | undefined, etag: string): boolean {
  if (condition === undefined || condition.trim() === '*') return true
  return condition.split(',').some((tag) => tag.trim() === etag)
}

async function sendRetried(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { database, boss, operations } = service
  const { principal } = request
  const job = await findRequested(service, request)
  const operation = operations.get(job.operation)
  if (operation) await assertBacklog(database, operation)
  const retry = {
    jobId: job.id,
    principal,
    idempotency: idempotencyOf(request, { bodyCounts: false }),
    trace: traceOf(request),
  }
  const outcome = await inTurn(service, job.id, (trx) => retryJob(boss, trx, operations, { ...retry, id: uuid7() }))
  switch (outcome.kind) {
    case 'accepted':
      return reply.accepted(outcome.job)
    case 'replayed':
      return reply.header('idempotent-replayed', 'true').accepted(await findReplayed(service, outcome.jobId, principal))
    case 'key-reused':
      throw new ProblemError('idempotency-key-reused')
  }
}
