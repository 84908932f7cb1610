import { STATUS_CODES } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { AcceptEntry } from '../accept/accept.ts'
import { assertBacklog } from '../accept/backlog.ts'
import { ProblemError } from '../errors.ts'
import { endpointExists } from '../jobs/webhook-endpoint.ts'
import type { Operation, Refusal, Route } from '../operation.ts'
import { uuid7 } from '../uuid.ts'
import { findReplayed, idempotencyOf, traceOf } from './idempotency.ts'
import { findUnstorable } from './json.ts'
import type { Metrics } from './metrics.ts'
import { acceptsJson } from './negotiate.ts'
import { jobLinks } from './openapi.ts'
import { Problem, pathOf, problemMediaType, toProblem } from './problem.ts'
import { headerLines, readsHeaders } from './request-headers.ts'
import { acceptedHeaders, withBody, withEnd, withMonitor, withProblems, withResource } from './responses.ts'
import type { Service } from './service.ts'

/** The route of an operation: checks the request, commits it, and only then answers 202. */
export function submitRoute(
  app: FastifyInstance,
  service: Service,
  operation: Operation & { route: Route },
  metrics: Metrics,
): void {
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
      headers: readsHeaders('prefer', 'idempotency-key', 'accepted-webhook', 'traceparent'),
      response: {
        200: withEnd(operation),
        202: withMonitor('Accepted, and durable', { headers: acceptedHeaders }),
        303: withResource(),
        ...withProblems(
          ...(['malformed-json', 'invalid-body', 'invalid-parameter', 'invalid-idempotency-key'] as const),
          'unknown-webhook',
          ...(['idempotency-key-required', 'idempotency-key-locked', 'idempotency-key-reused'] as const),
          ...(['body-too-large', 'unsupported-media-type', 'backlog-full'] as const),
        ),
        '4xx': withBody('Refused by the operation itself', 'application/problem+json', Problem),
      },
    },
    links: { 202: jobLinks },
    onRequest: [
      acceptsJson,
      ...(operation.maxBacklog === undefined ? [] : [() => assertBacklog(service.database, operation)]),
    ],
    // A DELETE has no body as a rule (RFC 9110, section 9.3.5), and need not have one here.
    ...(operation.route.method === 'DELETE' && {
      preValidation: async (request: FastifyRequest) => {
        request.body ??= {}
      },
    }),
    handler: async (request, reply) => {
      const entry = toEntry(operation, request)
      await assertWebhookKnown(service, entry)
      const outcome = await service.committer.submit(entry)
      switch (outcome.kind) {
        case 'accepted':
          metrics.countAccepted(operation.name, 'accepted')
          return reply.accepted(outcome.job)
        case 'replayed':
          metrics.countAccepted(operation.name, 'replayed')
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
  const details = findUnstorable(request.params)
  if (details.length > 0) throw new ProblemError('invalid-parameter', undefined, { details })
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
    webhookEndpointId: webhookOf(request),
  }
}

/** Accepted-Webhook narrows what is told of the end to one endpoint. */
function webhookOf(request: FastifyRequest): string | undefined {
  const [id, ...more] = headerLines(request, 'accepted-webhook')
  if (more.length > 0) throw new ProblemError('unknown-webhook', 'There is more than one Accepted-Webhook')
  return id?.trim()
}

async function assertWebhookKnown({ database }: Service, { webhookEndpointId: id }: AcceptEntry): Promise<void> {
  if (id === undefined || (await endpointExists(database.kysely, id))) return
  throw new ProblemError('unknown-webhook')
}

function refused(request: FastifyRequest, reply: FastifyReply, { status, code, message }: Refusal): FastifyReply {
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .type(problemMediaType)
    .send(toProblem({ code, title: STATUS_CODES[status] ?? code, message, instance: pathOf(request) }))
}
