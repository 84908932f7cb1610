import { STATUS_CODES } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { v7 as uuid7 } from 'uuid'
import type { AcceptEntry } from '../accept/accept.ts'
import { assertBacklog } from '../accept/backlog.ts'
import { fingerprint, parseIdempotencyKey } from '../accept/idempotency-key.ts'
import { ProblemError } from '../errors.ts'
import type { Job } from '../jobs/job.ts'
import { Monitor } from '../jobs/monitor.ts'
import { findJob } from '../jobs/read.ts'
import type { Operation, Refusal, Route } from '../operation.ts'
import type { Service } from './accepted.ts'
import { findUnstorable } from './json.ts'
import { pathOf, problemMediaType, problemResponses, toProblem } from './problem.ts'

// W3C Trace Context, section 3.2.2.
const traceparent = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

/** The route of an operation: checks the request, commits it, and only then answers 202. */
export function submitRoute(app: FastifyInstance, service: Service, operation: Operation & { route: Route }): void {
  app.route({
    method: operation.route.method,
    url: operation.route.url,
    bodyLimit: operation.bodyLimit,
    schema: {
      summary: operation.summary,
      operationId: operation.name,
      tags: ['operations'],
      body: operation.schemas.input,
      ...(operation.schemas.params && { params: operation.schemas.params }),
      response: { 202: Monitor, ...problemResponses },
    },
    handler: async (request, reply) => {
      const entry = toEntry(operation, request)
      await assertBacklog(service.database, operation)
      const outcome = await service.committer.submit(entry)
      switch (outcome.kind) {
        case 'accepted':
          return reply.accepted(outcome.job)
        case 'replayed':
          return reply.header('idempotent-replayed', 'true').accepted(await replayed(service, outcome.jobId, entry))
        case 'key-reused':
          throw new ProblemError('idempotency-key-reused')
        case 'refused':
          return refused(request, reply, outcome.refusal)
      }
    },
  })
}

function toEntry(operation: Operation, request: FastifyRequest): AcceptEntry {
  const violation = findUnstorable(request.params)
  if (violation) throw new ProblemError('invalid-parameter', undefined, { details: [violation] })
  const key = parseIdempotencyKey(headerLines(request, 'idempotency-key'))
  if (!key && operation.idempotencyKey === 'required') throw new ProblemError('idempotency-key-required')
  const trace = request.headers.traceparent
  return {
    id: uuid7(),
    operation,
    input: request.body,
    params: request.params,
    principal: request.principal,
    ...(key && { idempotency: { key, fingerprint: fingerprintOf(request) } }),
    ...(typeof trace === 'string' && traceparent.test(trace) && { trace }),
  }
}

const fingerprintOf = (request: FastifyRequest) =>
  fingerprint({
    method: request.method,
    path: pathOf(request),
    query: request.url.split('?')[1] ?? '',
    mediaType: request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? '',
    body: request.body,
  })

/** Every field line of a header; Node joins those it does not know. */
function headerLines({ raw: { rawHeaders } }: FastifyRequest, name: string): string[] {
  return rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name)
}

async function replayed({ database }: Service, id: string, { principal }: AcceptEntry): Promise<Job> {
  const found = await findJob(database.kysely, id, principal)
  if (typeof found === 'string') {
    throw new ProblemError('idempotency-key-locked', 'The job of this key is just expiring', { retryAfterSeconds: 1 })
  }
  return found.job
}

function refused(request: FastifyRequest, reply: FastifyReply, { status, code, message }: Refusal): FastifyReply {
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .type(problemMediaType)
    .send(toProblem({ code, title: STATUS_CODES[status] ?? code, message, instance: pathOf(request) }))
}
