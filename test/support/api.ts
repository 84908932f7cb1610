import type { AcceptedOptions } from 'accepted'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { accepted } from '../../src/http/accepted.ts'
import { closeGracefully } from '../../src/http/graceful-close.ts'
import { handleNotFound } from '../../src/http/protocol/problem.ts'
import { servicePaths } from '../../src/http/route-paths.ts'
import { asRole, createDatabase } from './database.ts'

/** Fastify allows 10 s by default. While other tests use the whole machine, the plugin may take longer. */
export const maxRegistrationMs = 60_000

export interface TestApi {
  app: FastifyInstance
  url: string
  /** A separate pool on the API's database, for the test. */
  database: Database
}

/**
 * Serves the API from this process, over a real socket and with a new database.
 *
 * @param prepare adds routes of the host app
 * @param role `console`: the role of the API may take the rights of an operator, which the console needs
 */
export async function serve(
  t: Test,
  options: Omit<AcceptedOptions, 'database'>,
  prepare: (app: FastifyInstance) => void = () => {},
  role: 'api' | 'console' = 'api',
): Promise<TestApi> {
  const databaseUrl = await createDatabase(t)
  const app = Fastify({ pluginTimeout: maxRegistrationMs })
  t.teardown(() => app.close())
  closeGracefully(app)
  app.setNotFoundHandler(handleNotFound)
  prepare(app)
  await app.register(accepted, { routes: servicePaths, ...options, database: asRole(databaseUrl, role) })
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  return { app, url: await app.listen({ host: '127.0.0.1', port: 0 }), database }
}
