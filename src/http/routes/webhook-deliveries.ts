import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { errorCode, sqlstate } from '../../db/sqlstate.ts'
import { ProblemError } from '../../errors.ts'
import { enqueueDelivery } from '../../jobs/webhook-endpoint.ts'
import { transactFor } from '../protocol/actor.ts'
import { acceptedHeaders, monitorResponse, problemResponses } from '../protocol/schemas.ts'
import { sendAccepted } from '../protocol/send-accepted.ts'
import type { Service } from '../service.ts'

const uuidPattern = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/

export const params = Type.Object({ id: Type.String({ description: 'The id of the endpoint' }) })

export type WithId = { Params: { id: string } }

export const webhookSchema = <Schema extends object>(operationId: string, summary: string, schema: Schema) => ({
  operationId,
  summary,
  tags: ['webhooks'],
  ...schema,
})

export const endpointNotFound = () => new ProblemError('not-found', 'There is no webhook endpoint with this id')

const Resend = Type.Object(
  { jobId: Type.String({ pattern: uuidPattern.source, description: 'A job that has ended' }) },
  { additionalProperties: false, title: 'ResendWebhook' },
)

const delivered = { 202: monitorResponse('The job of the delivery', { headers: acceptedHeaders }) }

/** Adds the route that delivers a test event. */
export function testEndpointRoute(scope: FastifyInstance, service: Service): void {
  scope.post<WithId>(
    `${service.paths.webhooks}/:id/test`,
    {
      schema: webhookSchema('testWebhook', 'Deliver an event of the type accepted.test', {
        params,
        response: { ...delivered, ...problemResponses('forbidden', 'not-found') },
      }),
    },
    async (request, reply) => sendDelivery(service, request, reply, null),
  )
}

/** Adds the route that delivers the outcome of a job again. */
export function resendRoute(scope: FastifyInstance, service: Service): void {
  scope.post<WithId & { Body: Type.Static<typeof Resend> }>(
    `${service.paths.webhooks}/:id/resend`,
    {
      schema: webhookSchema('resendWebhook', 'Deliver the outcome of a job again, with the same webhook-id', {
        params,
        body: Resend,
        response: {
          ...delivered,
          ...problemResponses('forbidden', 'not-found', 'job-not-ended', 'malformed-json', 'invalid-body'),
          ...problemResponses('body-too-large', 'unsupported-media-type'),
        },
      }),
    },
    async (request, reply) => sendDelivery(service, request, reply, request.body.jobId),
  )
}

async function sendDelivery(
  service: Service,
  request: FastifyRequest<WithId>,
  reply: FastifyReply,
  jobId: string | null,
): Promise<FastifyReply> {
  if (!uuidPattern.test(request.params.id)) throw endpointNotFound()
  try {
    const job = await transactFor(request, service.database, (trx) => enqueueDelivery(trx, request.params.id, jobId))
    return sendAccepted(service, reply, job)
  } catch (error) {
    const { message } = error as Error
    const detail = `${message.charAt(0).toUpperCase()}${message.slice(1)}`
    if (errorCode(error) === sqlstate.noDataFound) throw new ProblemError('not-found', detail)
    if (errorCode(error) === sqlstate.objectNotInPrerequisiteState) throw new ProblemError('job-not-ended', detail)
    throw error
  }
}
