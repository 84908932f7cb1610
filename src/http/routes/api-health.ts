import type { FastifyInstance } from 'fastify'
import { watchNodes } from '../../db/citus.ts'
import type { Database } from '../../db/database.ts'
import { isServerReadOnly } from '../../db/session-settings.ts'
import { ProblemError } from '../../errors.ts'
import { assertMigrated } from '../../migrate/migrate.ts'

/**
 * Adds the health routes. The process is ready if Postgres answers and accepts writes, if all migrations of this version
 * are applied, and if no node of a Citus cluster is away: a batch of requests writes to most nodes.
 */
export function apiHealthRoutes(app: FastifyInstance, path: string, database: Database): void {
  app.get(`${path}/live`, { schema: { hide: true } }, async (_request, reply) =>
    reply.header('cache-control', 'no-store').send({ status: 'live' }),
  )
  const readNodesAway = watchNodes(database)
  app.get(`${path}/ready`, { schema: { hide: true } }, async (_request, reply) => {
    await assertMigrated(database)
    if (await isServerReadOnly(database.pool)) {
      throw new ProblemError('database-unavailable', 'The database is read-only', { retryAfterSeconds: 1 })
    }
    const [node] = await readNodesAway()
    if (node) throw new ProblemError('database-unavailable', `Citus is without ${node}`, { retryAfterSeconds: 5 })
    return reply.header('cache-control', 'no-store').send({ status: 'ready' })
  })
}
