import { STATUS_CODES } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { TSchema } from 'typebox'
import type { AcceptEntry } from '../../accept/accept.ts'
import { assertBacklog, hasBacklogLimit } from '../../accept/backlog.ts'
import type { Refusal } from '../../acceptance.ts'
import { ProblemError } from '../../errors.ts'
import { keyRingFor } from '../../jobs/seals.ts'
import { mayUseEndpoint } from '../../jobs/webhook-endpoint.ts'
import type { Operation } from '../../operation.ts'
import type { Route } from '../../operation-options.ts'
import { uuid7 } from '../../primitives/uuid.ts'
import { requireOperation } from '../access.ts'
import { passIfReplayed } from '../protocol/backlog.ts'
import { headerLines, requestHeaders } from '../protocol/headers.ts'
import { idempotencyOf, sendOutcome } from '../protocol/idempotency.ts'
import { findInexactParams } from '../protocol/inexact-params.ts'
import { findUnstorable } from '../protocol/json.ts'
import { acceptsJson } from '../protocol/negotiate.ts'
import { jobLinks } from '../protocol/openapi.ts'
import { Problem, problemMediaType, toProblem } from '../protocol/problem.ts'
import {
  acceptedHeaders,
  bodyResponse,
  endedResponse,
  monitorResponse,
  problemResponses,
  resourceResponse,
} from '../protocol/schemas.ts'
import { traceRequest } from '../protocol/trace-request.ts'
import type { Service } from '../service.ts'
import type { RequestMetrics } from './request-metrics.ts'

/** Adds the route of an operation. It validates a request, commits the job, and only then answers 202. */
export function submitRoute(
  app: FastifyInstance,
  service: Service,
  operation: Operation & { route: Route },
  metrics: RequestMetrics,
): void {
  app.route({
    method: operation.route.method,
    url: operation.route.url,
    config: { action: 'submit' },
    bodyLimit: operation.bodyLimit,
    schema: {
      summary: operation.summary,
      operationId: operation.name,
      tags: ['operations'],
      body: operation.schemas.input,
      ...(operation.schemas.params && { params: operation.schemas.params }),
      headers: requestHeaders('prefer', 'idempotency-key', 'accepted-webhook', 'traceparent', 'tracestate'),
      response: {
        200: endedResponse(operation),
        202: monitorResponse('The job is committed', { headers: acceptedHeaders }),
        303: resourceResponse(),
        ...problemResponses(
          ...(['malformed-json', 'invalid-body', 'invalid-parameter', 'invalid-idempotency-key'] as const),
          'unknown-webhook',
          ...(['idempotency-key-required', 'idempotency-key-locked', 'idempotency-key-reused'] as const),
          ...(['body-too-large', 'unsupported-media-type', 'backlog-full', 'principal-backlog-full'] as const),
          ...(operation.coalesce ? (['job-locked'] as const) : []),
        ),
        '4xx': bodyResponse('The operation refused the request', 'application/problem+json', Problem),
      },
    },
    links: { 202: jobLinks },
    onRequest: [
      acceptsJson,
      requireOperation(operation.name),
      ...(hasBacklogLimit(operation) ? [limitBacklog(service, operation)] : []),
    ],
    preValidation: [
      ...(operation.route.method === 'DELETE' ? [defaultBody] : []),
      ...(operation.schemas.params ? [refuseInexactParams(operation.schemas.params)] : []),
    ],
    handler: async (request, reply) => {
      const entry = toEntry(service, operation, request)
      if (entry.webhookEndpointId !== undefined) await assertWebhookUsable(service, entry)
      const message = { id: entry.id, operation: operation.name }
      const outcome = await traceRequest(service, request, message, (context) =>
        service.committer.submit({ ...entry, ...context }),
      )
      if (outcome.kind === 'refused') return sendRefusal(request, reply, outcome.refusal)
      if (outcome.kind !== 'key-reused') metrics.countAccepted(operation.name, outcome.kind)
      return sendOutcome(service, reply, outcome)
    },
  })
}

const limitBacklog =
  (service: Service, operation: Operation): onRequestAsyncHookHandler =>
  async (request) =>
    passIfReplayed(service, request, assertBacklog(service.database, operation, request.principal))

/** The body of a DELETE request is optional, because most clients send none (RFC 9110, section 9.3.5). */
async function defaultBody(request: FastifyRequest): Promise<void> {
  request.body ??= {}
}

/** Refuses numbers in the path that the validation would alter silently when it converts them to doubles. */
function refuseInexactParams(schema: TSchema) {
  return async ({ params }: FastifyRequest): Promise<void> => {
    const details = findInexactParams(schema, params)
    if (details.length > 0) throw new ProblemError('invalid-parameter', undefined, { details })
  }
}

function toEntry({ seals }: Service, operation: Operation, request: FastifyRequest): AcceptEntry {
  const details = findUnstorable(request.params)
  if (details.length > 0) throw new ProblemError('invalid-parameter', undefined, { details })
  const idempotency = idempotencyOf(request, { includeBody: true, keyRing: keyRingFor([operation], seals) })
  if (!idempotency && operation.idempotencyKey === 'required') throw new ProblemError('idempotency-key-required')
  return {
    id: uuid7(),
    operation,
    input: request.body,
    params: request.params,
    principal: request.principal,
    idempotency,
    webhookEndpointId: webhookIdOf(request),
  }
}

/** Reads the header Accepted-Webhook. It limits the webhook deliveries for this job to one endpoint. */
export function webhookIdOf(request: FastifyRequest): string | undefined {
  const [id, ...more] = headerLines(request, 'accepted-webhook')
  if (more.length > 0)
    throw new ProblemError('unknown-webhook', 'The request has more than one Accepted-Webhook header')
  return id?.trim()
}

/** @throws ProblemError unknown-webhook, also for an endpoint of another principal */
export async function assertWebhookUsable(
  { database }: Service,
  { webhookEndpointId: id, principal }: Pick<AcceptEntry, 'webhookEndpointId' | 'principal'>,
): Promise<void> {
  if (id === undefined || (await mayUseEndpoint(database.kysely, id, principal))) return
  throw new ProblemError('unknown-webhook')
}

/** Answers with the refusal of an operation. */
export function sendRefusal(
  request: FastifyRequest,
  reply: FastifyReply,
  { status, code, message }: Refusal,
  details?: readonly unknown[],
): FastifyReply {
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .type(problemMediaType)
    .send(toProblem({ code, title: STATUS_CODES[status] ?? code, message, details, request }))
}
