import type { FastifyInstance } from 'fastify'
import type { Database } from '../../db/database.ts'
import { assertMigrated } from '../../migrate/migrate.ts'

/** Adds the health routes. The process is ready if Postgres answers and all migrations of this version are applied. */
export function apiHealthRoutes(app: FastifyInstance, path: string, database: Database): void {
  app.get(`${path}/live`, { schema: { hide: true } }, async (_request, reply) =>
    reply.header('cache-control', 'no-store').send({ status: 'live' }),
  )
  app.get(`${path}/ready`, { schema: { hide: true } }, async (_request, reply) => {
    await assertMigrated(database)
    return reply.header('cache-control', 'no-store').send({ status: 'ready' })
  })
}
