import { STATUS_CODES } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { v7 as uuid7 } from 'uuid'
import type { AcceptEntry } from '../accept/accept.ts'
import { assertBacklog } from '../accept/backlog.ts'
import { ProblemError } from '../errors.ts'
import { Monitor } from '../jobs/monitor.ts'
import type { Operation, Refusal, Route } from '../operation.ts'
import { acceptsJson } from './accept.ts'
import type { Service } from './accepted.ts'
import { findReplayed, idempotencyOf, traceOf } from './idempotency.ts'
import { findUnstorable } from './json.ts'
import { pathOf, problemMediaType, problemResponses, toProblem } from './problem.ts'

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
    onRequest: acceptsJson,
    handler: async (request, reply) => {
      const entry = toEntry(operation, request)
      await assertBacklog(service.database, operation)
      const outcome = await service.committer.submit(entry)
      switch (outcome.kind) {
        case 'accepted':
          return reply.accepted(outcome.job)
        case 'replayed':
          reply.header('idempotent-replayed', 'true')
          return reply.accepted(await findReplayed(service, outcome.jobId, entry.principal))
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
  const idempotency = idempotencyOf(request, { bodyCounts: true })
  if (!idempotency && operation.idempotencyKey === 'required') throw new ProblemError('idempotency-key-required')
  return {
    id: uuid7(),
    operation,
    input: request.body,
    params: request.params,
    principal: request.principal,
    idempotency,
    trace: traceOf(request),
  }
}

function refused(request: FastifyRequest, reply: FastifyReply, { status, code, message }: Refusal): FastifyReply {
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .type(problemMediaType)
    .send(toProblem({ code, title: STATUS_CODES[status] ?? code, message, instance: pathOf(request) }))
}
