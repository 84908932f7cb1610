import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../../errors.ts'
import {
  ApiKey,
  ApiKeyWithSecret,
  createKey,
  findKeyViolation,
  listKeys,
  NewApiKey,
  revokeKey,
  rotateKey,
} from '../../jobs/api-key.ts'
import { transactFor } from '../protocol/actor.ts'
import { ignoreBodies } from '../protocol/json.ts'
import { acceptsJson } from '../protocol/negotiate.ts'
import { bodyResponse, emptyResponse, problemResponses } from '../protocol/schemas.ts'
import type { Service } from '../service.ts'

const jsonMediaType = 'application/json'

const params = Type.Object({ id: Type.String({ description: 'The id of the key' }) })

type WithId = { Params: { id: string } }

const keySchema = <Schema extends object>(operationId: string, summary: string, schema: Schema) => ({
  operationId,
  summary,
  tags: ['keys'],
  ...schema,
})

/** Adds the routes that create, list, rotate and revoke API keys. */
export function keyRoutes(app: FastifyInstance, service: Service, path: string): void {
  app.register(async (scope) => {
    scope.addHook('onRequest', acceptsJson)
    scope.addHook('onSend', async (_request, reply) => void reply.header('cache-control', 'no-store'))
    createKeyRoute(scope, service, path)
    listKeysRoute(scope, service, path)
    scope.register(async (bodilessScope) => {
      ignoreBodies(bodilessScope)
      rotateKeyRoute(bodilessScope, service, path)
      revokeKeyRoute(bodilessScope, service, path)
    })
  })
}

function createKeyRoute(scope: FastifyInstance, { database, operations }: Service, path: string): void {
  scope.post<{ Body: NewApiKey }>(
    path,
    {
      schema: keySchema('createKey', 'Create an API key', {
        body: NewApiKey,
        response: {
          201: bodyResponse('The new key', jsonMediaType, ApiKeyWithSecret),
          ...problemResponses(
            ...(['forbidden', 'malformed-json', 'invalid-body', 'body-too-large', 'unsupported-media-type'] as const),
          ),
        },
      }),
    },
    async (request, reply) => {
      const violation = findKeyViolation(request.body, operations)
      if (violation)
        throw new ProblemError('invalid-body', undefined, { details: [{ keyword: 'value', ...violation }] })
      return reply.code(201).send(await transactFor(request, database, (trx) => createKey(trx, request.body)))
    },
  )
}

function listKeysRoute(scope: FastifyInstance, { database }: Service, path: string): void {
  scope.get(
    path,
    {
      exposeHeadRoute: true,
      schema: keySchema('listKeys', 'List all API keys, without their secrets', {
        response: {
          200: bodyResponse('All keys', jsonMediaType, Type.Object({ value: Type.Array(ApiKey) })),
          ...problemResponses('forbidden'),
        },
      }),
    },
    async () => ({ value: await listKeys(database.kysely) }),
  )
}

function rotateKeyRoute(scope: FastifyInstance, { database }: Service, path: string): void {
  scope.post<WithId>(
    `${path}/:id/rotate`,
    {
      schema: keySchema('rotateKey', 'Replace a key by a new one; the old key is accepted for another day', {
        params,
        response: {
          201: bodyResponse('The new key', jsonMediaType, ApiKeyWithSecret),
          ...problemResponses('forbidden', 'not-found'),
        },
      }),
    },
    async (request, reply) => {
      const key = await transactFor(request, database, (trx) => rotateKey(trx, request.params.id))
      if (!key) throw new ProblemError('not-found', 'There is no valid key with this id, or it was replaced before')
      return reply.code(201).send(key)
    },
  )
}

function revokeKeyRoute(scope: FastifyInstance, { database }: Service, path: string): void {
  scope.delete<WithId>(
    `${path}/:id`,
    {
      schema: keySchema('revokeKey', 'Revoke a key; its streams end within 2 seconds', {
        params,
        response: { 204: emptyResponse('The key is revoked'), ...problemResponses('forbidden', 'not-found') },
      }),
    },
    async (request, reply) => {
      const found = await transactFor(request, database, (trx) => revokeKey(trx, request.params.id))
      if (!found) throw new ProblemError('not-found', 'There is no key with this id')
      return reply.code(204).send()
    },
  )
}
