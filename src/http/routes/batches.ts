import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { EntriesRefused } from '../../accept/accept.ts'
import { type AcceptedBatch, assertBatchBacklog } from '../../accept/accept-batch.ts'
import { ProblemError } from '../../errors.ts'
import { batchOperation } from '../../jobs/batch.ts'
import { keyRingFor } from '../../jobs/seals.ts'
import { mayUseOperation } from '../access.ts'
import { ndjsonMediaType } from '../batches/body.ts'
import { limitBatches, maxBatchBytes } from '../batches/limit.ts'
import { type ReceivedBatch, readBatch } from '../batches/read.ts'
import { refusalOf } from '../batches/refusal.ts'
import { batchSchema } from '../batches/schema.ts'
import { passIfReplayed } from '../protocol/backlog.ts'
import { idempotencyOf, sendOutcome } from '../protocol/idempotency.ts'
import { refuseContentEncoding } from '../protocol/json.ts'
import { acceptsJson } from '../protocol/negotiate.ts'
import { jobLinks } from '../protocol/openapi.ts'
import { traceRequest } from '../protocol/trace-request.ts'
import type { Service } from '../service.ts'
import type { RequestMetrics } from './request-metrics.ts'
import { assertWebhookUsable, sendRefusal, webhookIdOf } from './submit.ts'

/** Adds the route that accepts many jobs in one request: all of them, or none. */
export function batchRoute(app: FastifyInstance, service: Service, path: string, metrics: RequestMetrics): void {
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    for (const mediaType of ['application/json', ndjsonMediaType]) {
      scope.addContentTypeParser(mediaType, { parseAs: 'buffer' }, (request, body, done) => {
        try {
          refuseContentEncoding(request)
          done(null, { isNdjson: mediaType === ndjsonMediaType, text: body as Buffer } satisfies ReceivedBatch)
        } catch (error) {
          done(error as Error)
        }
      })
    }
    scope.post(
      path,
      {
        config: { action: 'submit' },
        bodyLimit: maxBatchBytes,
        schema: batchSchema(service.operations),
        links: { 202: jobLinks },
        // The body is checked in slices, by the handler.
        validatorCompiler: () => () => true,
        onRequest: [acceptsJson, limitBatches()],
      },
      (request, reply) => handleBatch(service, request, reply, metrics),
    )
  })
}

async function handleBatch(
  service: Service,
  request: FastifyRequest,
  reply: FastifyReply,
  metrics: RequestMetrics,
): Promise<FastifyReply> {
  const batch = await readRequest(service, request)
  await assertWebhookUsable(service, batch)
  await passIfReplayed(service, request, assertBatchBacklog(service.database, batch))
  try {
    const message = { id: batch.id, operation: batchOperation.name, count: batch.entries.length }
    const outcome = await traceRequest(service, request, message, (context) =>
      service.batches.submit({ ...batch, ...context }),
    )
    if (outcome.kind !== 'key-reused') metrics.countAccepted(batchOperation.name, outcome.kind)
    return await sendOutcome(service, reply, outcome)
  } catch (error) {
    if (!(error instanceof EntriesRefused)) throw error
    const { refusal, details } = refusalOf(batch, error)
    return sendRefusal(request, reply, refusal, details)
  }
}

function readRequest({ operations, seals }: Service, request: FastifyRequest): Promise<AcceptedBatch> {
  const received = (request.body ?? { isNdjson: false, text: new Uint8Array() }) as ReceivedBatch
  const common = {
    principal: request.principal,
    webhookEndpointId: webhookIdOf(request),
  }
  const permitted = new Map([...operations].filter(([name]) => mayUseOperation(request, name)))
  // For example, the key is for operations that no longer exist.
  if (permitted.size === 0 && operations.size > 0) {
    throw new ProblemError('forbidden', 'The key of the request permits no operation of this API')
  }
  return readBatch(received, common, permitted, async (used, makeDigest) => {
    const hasKey = request.headers['idempotency-key'] !== undefined
    const body = hasKey ? await makeDigest() : undefined
    return idempotencyOf(request, { includeBody: true, body, keyRing: keyRingFor(used, seals) })
  })
}
