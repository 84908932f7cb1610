// An app that uses the built package: the check of the types of every entry point.
import * as accepted from 'accepted'
import * as adapters from 'accepted/adapters'
import * as client from 'accepted/client'
import * as http from 'accepted/http'
import * as perform from 'accepted/perform'
import * as testing from 'accepted/testing'
import * as worker from 'accepted/worker'
import type { FastifyInstance } from 'fastify'

export const entryPoints = { accepted, adapters, client, http, perform, testing, worker }

export async function start(app: FastifyInstance, operation: accepted.Operation): Promise<string> {
  await app.register(accepted.accepted, { operations: { operation }, database: 'postgres://127.0.0.1/app' })
  app.get('/', { onRequest: app.accepted.authenticate, config: { public: false } }, async (request, reply) => {
    const { scopes, operations, keyId, credentialExpiresAt, linkedJobId } = request
    request.log.info({ mayOperate: scopes.includes('operate'), operations, keyId, credentialExpiresAt, linkedJobId })
    const job = await app.accepted.db
      .transaction()
      .execute((trx) => app.accepted.enqueue(trx, operation, {}, { principal: request.principal }))
    return reply.accepted(job)
  })
  return app.listen()
}
