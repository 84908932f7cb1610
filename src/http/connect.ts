import type { FastifyInstance } from 'fastify'
import { applicationName } from '../db/application-name.ts'
import { detectCitus } from '../db/citus.ts'
import { type Database, type DatabaseOptions, openDatabase } from '../db/database.ts'
import type { ReportError } from '../db/error-reporter.ts'
import { assertPreparedStatements } from '../db/pooler.ts'
import { assertSessionSettings } from '../db/session-settings.ts'
import { withBuiltIn } from '../jobs/built-in.ts'
import { assertGrants } from '../migrate/assert-grants.ts'
import { assertMigrated } from '../migrate/migrate.ts'
import type { Operation } from '../operation.ts'
import { type PgBoss, startBoss } from '../queue/boss.ts'
import { prepareQueues } from '../queue/define-operations.ts'

/** Opens the connection pool of an API. The app closes it. */
export async function connectDatabase(
  app: FastifyInstance,
  options: string | DatabaseOptions,
  report: ReportError,
): Promise<Database> {
  const database = openDatabase({
    applicationName: applicationName('api'),
    onIdleError: (error) => report(error, 'An idle connection to Postgres failed; the pool replaces it'),
    ...(typeof options === 'string' ? { url: options } : options),
  })
  app.addHook('onClose', () => database.close())
  await assertSessionSettings(database.pool)
  await assertGrants(database, 'api')
  await assertMigrated(database)
  await detectCitus(database)
  await assertPreparedStatements(database.options)
  return database
}

/** Starts pg-boss for an API. The app stops it. */
export async function connectQueue(
  app: FastifyInstance,
  database: Database,
  operations: ReadonlyMap<string, Operation>,
  report: ReportError,
): Promise<PgBoss> {
  const onError = (error: Error) =>
    report(error, 'pg-boss could not reload its list of queues; it tries again in a minute')
  const boss = await startBoss(database, { supervise: false, onError })
  app.addHook('onClose', () => boss.stop({ graceful: false }))
  await prepareQueues(database, boss, withBuiltIn(operations).values())
  return boss
}
