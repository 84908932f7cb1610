import type { Logger } from 'pino'
import { applicationName } from '../db/application-name.ts'
import { detectCitus } from '../db/citus.ts'
import { type Database, openDatabase } from '../db/database.ts'
import { type DatabaseSource, optionsOf } from '../db/database-source.ts'
import { createErrorReporter, type ReportError } from '../db/error-reporter.ts'
import { createNotifier, type Notifier } from '../db/notifier.ts'
import { assertPreparedStatements } from '../db/pooler.ts'
import { assertSessionSettings } from '../db/session-settings.ts'
import { withBuiltIn } from '../jobs/built-in.ts'
import { createEstimates, type Estimates } from '../jobs/estimate.ts'
import { createSeals, type Seals } from '../jobs/seals.ts'
import { createShownResults, type ShownResults } from '../jobs/shown-results.ts'
import { assertGrants } from '../migrate/assert-grants.ts'
import { assertMigrated } from '../migrate/migrate.ts'
import type { Operation } from '../operation.ts'
import { createKeyedMutex, type KeyedMutex } from '../primitives/keyed-mutex.ts'
import { loadTracing, type Tracing } from '../primitives/tracing.ts'
import { type PgBoss, startBoss } from '../queue/boss.ts'
import { prepareQueues } from '../queue/define-operations.ts'
import { type ApiEndings, openEndings } from './complete-ends.ts'

export type Log = Pick<Logger, 'error' | 'warn' | 'debug'>

export interface CoreOptions {
  operations: ReadonlyMap<string, Operation>
  database: DatabaseSource
  /** The value of ENCRYPTION_KEYS. */
  encryptionKeys?: string | undefined
  log: Log
}

/** What code needs that enqueues, cancels and retries jobs, with or without HTTP. */
export interface Core {
  operations: ReadonlyMap<string, Operation>
  database: Database
  boss: PgBoss
  seals: Seals
  results: ShownResults
  estimates: Estimates
  /** Notifies workers and watchers of changes. Call it after the commit. */
  notifier: Notifier
  /** Ends canceled jobs whose operation has `abandon`. */
  endings: ApiEndings
  /** Serialises requests with the same idempotency key, and requests that lock the same job. */
  mutex: KeyedMutex
  /** Undefined if the app does not trace. */
  tracing: Tracing | undefined
  log: Log
  report: ReportError
  /** Sends the last notifications, and closes the connections. A second call waits for the first. */
  close(): Promise<void>
}

/**
 * Connects to a migrated database, and creates the queues of the operations that are missing. Closes the connections
 * again if that fails.
 */
export async function openCore({ operations, encryptionKeys, log, ...options }: CoreOptions): Promise<Core> {
  const seals = createSeals(encryptionKeys, operations.values())
  const report = createErrorReporter(log)
  const database = openDatabase({
    applicationName: applicationName('api'),
    onIdleError: (error) => report(error, 'An idle connection to Postgres failed; the pool replaces it'),
    ...optionsOf(options.database),
  })
  const closers: (() => Promise<unknown>)[] = [() => database.close()]
  const closeAll = async () => {
    for (const close of closers.toReversed()) await close()
  }
  try {
    await assertUsable(database)
    const boss = await openQueue(database, operations, report)
    closers.push(() => boss.stop({ graceful: false }))
    const notifier = createNotifier(database)
    closers.push(() => notifier.flush())
    const endings = openEndings(report, { database, operations, seals, notifier, log })
    closers.push(() => endings.close())
    const results = createShownResults(operations, seals, (error, { operation }) =>
      report(error, 'A result could not be decrypted; it is shown sealed', { operation }),
    )
    let closing: Promise<void> | undefined
    return {
      ...{ operations, database, boss, seals, results, notifier, endings, log, report },
      estimates: createEstimates(database),
      mutex: createKeyedMutex(),
      tracing: await loadTracing(),
      close: () => {
        closing ??= closeAll()
        return closing
      },
    }
  } catch (error) {
    await closeAll().catch((err) => log.debug({ err }, 'Closing the connections failed'))
    throw error
  }
}

async function assertUsable(database: Database): Promise<void> {
  await assertSessionSettings(database.pool)
  await assertGrants(database, 'api')
  await assertMigrated(database)
  await detectCitus(database)
  await assertPreparedStatements(database)
}

async function openQueue(
  database: Database,
  operations: ReadonlyMap<string, Operation>,
  report: ReportError,
): Promise<PgBoss> {
  const onError = (error: Error) =>
    report(error, 'pg-boss could not reload its list of queues; it tries again in a minute')
  const boss = await startBoss(database, { supervise: false, onError })
  await prepareQueues(database, boss, withBuiltIn(operations).values())
  return boss
}
