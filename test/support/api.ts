import type { AcceptedOptions } from 'accepted'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { accepted } from '../../src/http/plugin.ts'
import { handleNotFound } from '../../src/http/problem.ts'
import { closeUnusedConnections } from '../../src/http/unused-connections.ts'
import { createDatabase } from './database.ts'

export interface TestApi {
  app: FastifyInstance
  url: string
  /** A connection of the test's own to the API's database. */
  database: Database
}

/** An API in this process, over a real socket, with a database of its own. */
export async function serve(t: Test, options: Omit<AcceptedOptions, 'database'>): Promise<TestApi> {
  const databaseUrl = await createDatabase(t)
  const app = Fastify()
  t.teardown(() => app.close())
  closeUnusedConnections(app)
  app.setNotFoundHandler(handleNotFound)
  await app.register(accepted, { ...options, database: databaseUrl })
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  return { app, url: await app.listen({ host: '127.0.0.1', port: 0 }), database }
}
