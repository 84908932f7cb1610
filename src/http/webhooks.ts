import type { FastifyInstance, FastifyReply } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../errors.ts'
import {
  createEndpoint,
  Endpoint,
  EndpointWithSecret,
  findEndpointViolation,
  listEndpoints,
  NewEndpoint,
  removeEndpoint,
  rotateSecret,
} from '../jobs/webhook-endpoint.ts'
import { ignoreBodies } from './json.ts'
import { acceptsJson } from './negotiate.ts'
import { withBody, withoutBody, withProblems } from './responses.ts'
import { requireScope, type Service } from './service.ts'

const json = 'application/json'

const params = Type.Object({ id: Type.String({ description: 'The id of the endpoint' }) })

type WithId = { Params: { id: string } }

/** The endpoints that are told of the ends of jobs; for administrators. */
export function webhookRoutes(scope: FastifyInstance, { database, operations, originOf }: Service): void {
  scope.register(async (app) => {
    app.addHook('onRequest', acceptsJson)
    app.addHook('onRequest', requireScope('admin'))
    app.addHook('onSend', async (_request, reply) => void noStore(reply))
    app.addHook('preHandler', async ({ params }) => {
      // No id has it, and Postgres takes it for none of its texts.
      if ((params as Partial<WithId['Params']>).id?.includes('\0')) notFound()
    })

    app.post<{ Body: NewEndpoint }>(
      '/webhooks',
      {
        schema: describe('createWebhook', 'Register an endpoint that is told when jobs end', {
          body: NewEndpoint,
          response: {
            201: withBody('Registered', json, EndpointWithSecret, { headers: ['Location'] }),
            ...withProblems('forbidden', 'malformed-json', 'invalid-body', 'body-too-large', 'unsupported-media-type'),
          },
        }),
      },
      async (request, reply) => {
        const violation = findEndpointViolation(request.body, operations)
        if (violation) throw new ProblemError('invalid-body', undefined, { details: [violation] })
        const endpoint = await database.kysely.transaction().execute((trx) => createEndpoint(trx, request.body))
        return reply
          .code(201)
          .header('location', `${originOf(request)}/webhooks/${endpoint.id}`)
          .send(endpoint)
      },
    )

    app.get(
      '/webhooks',
      {
        schema: describe('listWebhooks', 'Every endpoint, without its secrets', {
          response: {
            200: withBody('All of them', json, Type.Object({ value: Type.Array(Endpoint) })),
            ...withProblems('forbidden'),
          },
        }),
      },
      async () => ({ value: await listEndpoints(database.kysely) }),
    )

    app.get<WithId>(
      '/webhooks/:id',
      {
        schema: describe('getWebhook', 'An endpoint, without its secrets', {
          params,
          response: { 200: withBody('It', json, Endpoint), ...withProblems('forbidden', 'not-found') },
        }),
      },
      async ({ params: { id } }) => {
        const endpoint = (await listEndpoints(database.kysely)).find((one) => one.id === id.toLowerCase())
        return endpoint ?? notFound()
      },
    )

    app.register(async (bodiless) => {
      ignoreBodies(bodiless)
      bodiless.delete<WithId>(
        '/webhooks/:id',
        {
          schema: describe('removeWebhook', 'Remove an endpoint; what is on its way to it is not delivered', {
            params,
            response: { 204: withoutBody('Removed'), ...withProblems('forbidden', 'not-found') },
          }),
        },
        async ({ params: { id } }, reply) => {
          const removed = await database.kysely.transaction().execute((trx) => removeEndpoint(trx, id))
          return removed ? reply.code(204).send() : notFound()
        },
      )

      bodiless.post<WithId>(
        '/webhooks/:id/rotate',
        {
          schema: describe('rotateWebhookSecret', 'A new secret; the one before goes on signing for a day', {
            params,
            response: {
              200: withBody('Rotated', json, EndpointWithSecret),
              ...withProblems('forbidden', 'not-found'),
            },
          }),
        },
        async ({ params: { id } }) => {
          const endpoint = await database.kysely.transaction().execute((trx) => rotateSecret(trx, id))
          return endpoint ?? notFound()
        },
      )
    })
  })
}

const describe = <Schema extends object>(operationId: string, summary: string, schema: Schema) => ({
  operationId,
  summary,
  tags: ['webhooks'],
  ...schema,
})

const noStore = (reply: FastifyReply) => reply.header('cache-control', 'no-store')

function notFound(): never {
  throw new ProblemError('not-found', 'There is no such webhook endpoint')
}
