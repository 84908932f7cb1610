import type { FastifyInstance, FastifyReply } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../../errors.ts'
import { createEndpoint, listEndpoints, removeEndpoint, rotateSecret } from '../../jobs/webhook-endpoint.ts'
import { Endpoint, EndpointWithSecret, findEndpointViolation, NewEndpoint } from '../../jobs/webhook-schema.ts'
import { clearSecretsWarning } from '../../jobs/webhook-secret.ts'
import { transactFor } from '../protocol/actor.ts'
import { ignoreBodies } from '../protocol/json.ts'
import { acceptsJson } from '../protocol/negotiate.ts'
import { bodyResponse, emptyResponse, problemResponses } from '../protocol/schemas.ts'
import type { Service } from '../service.ts'
import {
  endpointNotFound,
  params,
  resendRoute,
  testEndpointRoute,
  type WithId,
  webhookSchema,
} from './webhook-deliveries.ts'

const jsonMediaType = 'application/json'

/** Adds the routes that register and manage webhook endpoints. They require the scope `admin`. */
export function webhookRoutes(app: FastifyInstance, service: Service): void {
  app.register(async (scope) => {
    scope.addHook('onRequest', acceptsJson)
    scope.addHook('onSend', async (_request, reply) => void noStore(reply))
    scope.addHook('preHandler', async ({ params }) => {
      // Postgres rejects U+0000 in text, so no endpoint can have an id with this character.
      if ((params as Partial<WithId['Params']>).id?.includes('\0')) throw endpointNotFound()
    })
    createEndpointRoute(scope, service)
    readEndpointRoutes(scope, service)
    scope.register(async (bodilessScope) => {
      ignoreBodies(bodilessScope)
      removeEndpointRoute(bodilessScope, service)
      rotateSecretRoute(bodilessScope, service)
      testEndpointRoute(bodilessScope, service)
    })
    resendRoute(scope, service)
  })
}

function createEndpointRoute(scope: FastifyInstance, { database, operations, paths, siteOf, seals }: Service): void {
  scope.post<{ Body: NewEndpoint }>(
    `${paths.webhooks}`,
    {
      schema: webhookSchema('createWebhook', 'Register an endpoint that is notified when jobs end', {
        body: NewEndpoint,
        response: {
          201: bodyResponse('The registered endpoint', jsonMediaType, EndpointWithSecret, { headers: ['Location'] }),
          ...problemResponses(
            'forbidden',
            'malformed-json',
            'invalid-body',
            'body-too-large',
            'unsupported-media-type',
          ),
        },
      }),
    },
    async (request, reply) => {
      const violation = findEndpointViolation(request.body, operations)
      if (violation) throw new ProblemError('invalid-body', undefined, { details: [violation] })
      if (!seals.keyRing) request.log.warn(clearSecretsWarning)
      const endpoint = await transactFor(request, database, (trx) => createEndpoint(trx, request.body, seals.keyRing))
      return reply
        .code(201)
        .header('location', `${siteOf(request).url}${paths.webhooks}/${endpoint.id}`)
        .send(endpoint)
    },
  )
}

function readEndpointRoutes(scope: FastifyInstance, { database, paths }: Service): void {
  scope.get(
    `${paths.webhooks}`,
    {
      exposeHeadRoute: true,
      schema: webhookSchema('listWebhooks', 'List all endpoints, without their secrets', {
        response: {
          200: bodyResponse('All endpoints', jsonMediaType, Type.Object({ value: Type.Array(Endpoint) })),
          ...problemResponses('forbidden'),
        },
      }),
    },
    async () => ({ value: await listEndpoints(database.kysely) }),
  )
  scope.get<WithId>(
    `${paths.webhooks}/:id`,
    {
      exposeHeadRoute: true,
      schema: webhookSchema('getWebhook', 'Get an endpoint, without its secrets', {
        params,
        response: {
          200: bodyResponse('The endpoint', jsonMediaType, Endpoint),
          ...problemResponses('forbidden', 'not-found'),
        },
      }),
    },
    async ({ params: { id } }) => {
      const endpoint = (await listEndpoints(database.kysely)).find((one) => one.id === id.toLowerCase())
      if (!endpoint) throw endpointNotFound()
      return endpoint
    },
  )
}

function removeEndpointRoute(scope: FastifyInstance, { database, paths }: Service): void {
  scope.delete<WithId>(
    `${paths.webhooks}/:id`,
    {
      schema: webhookSchema('removeWebhook', 'Remove an endpoint; its pending deliveries fail', {
        params,
        response: { 204: emptyResponse('The endpoint is removed'), ...problemResponses('forbidden', 'not-found') },
      }),
    },
    async (request, reply) => {
      const removed = await transactFor(request, database, (trx) => removeEndpoint(trx, request.params.id))
      if (!removed) throw endpointNotFound()
      return reply.code(204).send()
    },
  )
}

function rotateSecretRoute(scope: FastifyInstance, { database, paths, seals }: Service): void {
  scope.post<WithId>(
    `${paths.webhooks}/:id/rotate`,
    {
      schema: webhookSchema(
        'rotateWebhookSecret',
        'Create a new secret; for 24 hours, deliveries are also signed with the previous secret',
        {
          params,
          response: {
            200: bodyResponse('The endpoint with its new secret', jsonMediaType, EndpointWithSecret),
            ...problemResponses('forbidden', 'not-found'),
          },
        },
      ),
    },
    async (request) => {
      const endpoint = await transactFor(request, database, (trx) =>
        rotateSecret(trx, request.params.id, seals.keyRing),
      )
      if (!endpoint) throw endpointNotFound()
      return endpoint
    },
  )
}

const noStore = (reply: FastifyReply) => reply.header('cache-control', 'no-store')
