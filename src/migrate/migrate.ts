import { sql } from 'kysely'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import { assertEncoding } from '../db/session-settings.ts'
import { errorCode, isLostConnection, sqlstate } from '../db/sqlstate.ts'
import { ProblemError } from '../errors.ts'
import type { Operation } from '../operation.ts'
import { defineOperationsText } from '../queue/define-operations.ts'
import { planQueueSchema } from '../queue/install.ts'
import { type MigrationFile, migrationNames, ownDirectory, readMigrations } from './files.ts'
import { findPending, planHistory } from './history.ts'
import { assertComplete, planMissingParts } from './missing-parts.ts'
import { planCitus } from './plan-citus.ts'
import { planGrants, planRoles } from './plan-roles.ts'
import { MigrationSession } from './session.ts'
import { lostConnectionError, printStep, runStep, type Step, stepOf } from './step.ts'

let latestName: Promise<string> | undefined

/**
 * Checks that all migrations of this package have run.
 *
 * @throws ProblemError schema-outdated
 */
export async function assertMigrated({ kysely }: Database): Promise<void> {
  latestName ??= migrationNames(ownDirectory).then((names) => names.at(-1) as string)
  const found = sql`select from accepted.migration where name = ${await latestName}`.execute(kysely)
  const { rows } = await found.catch((error) => {
    if (errorCode(error) === sqlstate.undefinedTable) return { rows: [] }
    throw error
  })
  if (rows.length > 0) return
  throw new ProblemError('schema-outdated', 'The database schema is outdated: run `accepted migrate` first.')
}

/** A migration that has run and is committed. */
export type MigrationStep = Pick<MigrationFile, 'source' | 'name'>

export interface MigrateOptions {
  /** The URL must not lead through a pooler in transaction mode, because migrations take session locks. */
  url: string
  /**
   * Directory of the app's own .sql files. They run after our own migrations, with the `search_path` that the URL, the
   * database or the role sets.
   */
  appMigrations?: string
  /** Written to `accepted.operation`, before the app's own files run. */
  operations?: readonly Operation[]
  /** Called before each migration, with its number, from 1, among those that are pending. */
  onBegin?: (step: MigrationStep, position: { number: number; total: number }) => void
  /** Called after each migration has been committed. */
  onStep?: (step: MigrationStep) => void
  /** Called when another process is migrating, with the process id of its session. Then this process waits for it. */
  onWait?: (holder: string) => void
  /** Called with a sentence about roles and privileges: what the role may not do and which role may, or what was repaired. */
  onNote?: (note: string) => void
}

/**
 * Creates the group roles if it may, installs the schema of pg-boss, migrates our own schema, grants the privileges of
 * the group roles, writes the app's operations, and then migrates the app's schema. Each migration runs in a transaction
 * of its own, except for files that start with `-- accepted: no transaction`. Several processes may call this function at
 * the same time: each waits until the others have finished.
 *
 * @throws ConfigError when a migration fails: the message names its file and the line. Earlier migrations stay applied.
 *   Also when the connection is lost, when the database, a schema or a file is unsuitable, and when the URL leads through
 *   a pooler in transaction mode.
 */
export async function migrate(options: MigrateOptions): Promise<void> {
  const { onBegin, onStep, onWait, onNote } = options
  await withSession(options, async (session) => {
    await assertSuitable(session)
    await session.waitForTurn(onWait)
    const { creating, granting, ofCitus, defining, ofApp, notes, owner } = await planMigration(session, options)
    for (const note of notes) onNote?.(note)
    const total = [...creating, ...granting, ...defining, ...ofApp].filter(({ file }) => file).length
    let number = 0
    const run = async (steps: readonly Step[]) => {
      for (const step of steps) {
        const migration = step.file && { source: step.file.source, name: step.file.name }
        if (migration) onBegin?.(migration, { number: ++number, total })
        await runStep(session, step)
        if (migration) onStep?.(migration)
      }
    }
    await run(creating)
    if (!creating.some(({ file }) => file)) {
      await becomeOwner(session, owner)
      await assertComplete(session)
    }
    await run([...granting, ...ofCitus, ...defining, ...ofApp])
  })
}

/**
 * Returns the SQL that {@link migrate} would run, for a person to read or to run with psql. Changes nothing, and does
 * not wait for other processes.
 */
export function printMigration(options: MigrateOptions): Promise<string> {
  return withSession(options, async (session) => {
    await assertSuitable(session)
    const { creating, granting, ofCitus, defining, ofApp, notes } = await planMigration(session, options)
    const steps = [...creating, ...granting, ...ofCitus, ...(creating.length > 0 ? defining : []), ...ofApp]
    return [...notes.map((note) => `-- ${note}`), ...steps.map(printStep)].join('\n\n')
  })
}

async function withSession<Result>(
  { url }: MigrateOptions,
  work: (session: MigrationSession) => Promise<Result>,
): Promise<Result> {
  const session = await MigrationSession.open(url)
  try {
    return await work(session)
  } catch (error) {
    throw isLostConnection(error) && !(error instanceof ConfigError) ? lostConnectionError(error) : error
  } finally {
    await session.close()
  }
}

/** The oldest supported version, as in `server_version_num`. */
const oldestVersion = 150_000

/** @throws ConfigError when the database cannot hold our schema */
async function assertSuitable(session: MigrationSession): Promise<void> {
  const [row] = await session.query(`
    select current_database()::text as database, current_setting('server_encoding') as encoding,
      current_setting('server_version') as version, current_setting('server_version_num') as version_number,
      current_setting('transaction_read_only') as read_only`)
  const { database, encoding, version, version_number, read_only } = row as Record<string, string>
  assertEncoding(database as string, encoding as string)
  if (Number(version_number) < oldestVersion) {
    throw new ConfigError(`Accepted needs PostgreSQL 15 or later; this server has ${version}. Upgrade it.`)
  }
  if (read_only === 'on') {
    throw new ConfigError(
      'The database is read-only. Set DATABASE_URL to the primary server, or switch default_transaction_read_only off.',
    )
  }
}

interface MigrationPlan {
  /** The steps that create roles, schemas, and what is in our schemas. */
  creating: Step[]
  /** The step that grants privileges, or none. */
  granting: Step[]
  /** The step that creates what a Citus cluster needs, or none. */
  ofCitus: Step[]
  /** The step that writes the operations of the app, or none. It changes nothing if they are written. */
  defining: Step[]
  /** The migrations of the app. */
  ofApp: Step[]
  /** Sentences about roles and privileges. */
  notes: string[]
  /** The owner of our schemas, as SQL; undefined for the role of the connection. */
  owner: string | undefined
}

const becomeOwner = (session: MigrationSession, owner: string | undefined) =>
  session.query(owner === undefined ? 'reset role' : `set role ${owner}`)

const incompletePrivileges = 'Privileges of the group roles are missing, or PUBLIC has some; the defaults are restored.'

/** @throws ConfigError when a schema, a role or a file is unsuitable */
async function planMigration(
  session: MigrationSession,
  { appMigrations, operations }: MigrateOptions,
): Promise<MigrationPlan> {
  const own = await readMigrations('accepted', ownDirectory)
  const app = appMigrations ? await readMigrations('app', appMigrations) : []
  const { owner, steps: preparing, hasSchemas, groupRoles, notes } = await planRoles(session)
  if (hasSchemas) await becomeOwner(session, owner)
  const queue = await planQueueSchema((text) => session.query(text))
  const history = await planHistory(session)
  const pendingOwn = history ? own : await findPending(session, 'accepted', own)
  // Without a directory, earlier migrations of the app do not matter.
  const pendingApp = history || !appMigrations ? app : await findPending(session, 'app', app)
  // The database was restored from a backup without the schema of the queue.
  const parts = queue && pendingOwn.length === 0 ? await planMissingParts(session) : undefined
  const creating = [
    ...preparing,
    ...(history ? [{ title: 'schema accepted', text: history, isTransactional: true, owner }] : []),
    // pg-boss's plans contain BEGIN and COMMIT.
    ...(queue ? [{ title: 'schema accepted_queue', text: queue, isTransactional: false, owner }] : []),
    ...(parts
      ? [{ title: 'parts of schema accepted that need the queue', text: parts, isTransactional: true, owner }]
      : []),
    ...pendingOwn.map((file) => stepOf(file, owner)),
  ]
  const privileges = await planGrants(session, groupRoles, creating.length > 0)
  return {
    creating,
    granting: privileges ? [{ title: 'privileges', text: privileges, isTransactional: true, owner }] : [],
    ofCitus: await planCitus(session, groupRoles, owner),
    defining: operations
      ? [{ title: 'operations', text: defineOperationsText(operations), isTransactional: true, owner }]
      : [],
    ofApp: pendingApp.map((file) => stepOf(file, owner)),
    notes: privileges && creating.length === 0 ? [...notes, incompletePrivileges] : notes,
    owner,
  }
}
