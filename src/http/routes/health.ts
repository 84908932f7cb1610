import type { FastifyInstance } from 'fastify'
import type { Database } from '../../db/database.ts'
import { assertMigrated } from '../../migrate/migrate.ts'

/** Liveness and readiness. Ready means that Postgres answers, and has the schema that this process was built for. */
export function healthRoutes(app: FastifyInstance, database: Database): void {
  app.get('/health/live', { schema: { hide: true } }, async (_request, reply) =>
    reply.header('cache-control', 'no-store').send({ status: 'live' }),
  )
  app.get('/health/ready', { schema: { hide: true } }, async (_request, reply) => {
    await assertMigrated(database)
    return reply.header('cache-control', 'no-store').send({ status: 'ready' })
  })
}
