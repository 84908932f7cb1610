import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Kysely, PostgresDialect, sql } from 'kysely'
import { type Migration, type MigrationProvider, Migrator } from 'kysely/migration'
import pg from 'pg'
import { ConfigError } from '../config.ts'
import { ProblemError } from '../errors.ts'
import { migrateBoss } from './boss.ts'
import type { Database } from './database.ts'
import { sharesSession } from './pooler.ts'
import { errorCode, sqlstate } from './sqlstate.ts'

/** Our own migrations; they come with the package. */
const ownMigrations = join(fileURLToPath(new URL('.', import.meta.resolve('accepted/package.json'))), 'migrations')

// schema.sql beside them is what they add up to, for people.
const migrationFile = /^(\d{4}_[a-z0-9_]+)\.sql$/

async function migrationNames(directory: string): Promise<string[]> {
  return (await readdir(directory)).flatMap((file) => migrationFile.exec(file)?.[1] ?? []).sort()
}

let latest: Promise<string> | undefined

/**
 * Does nothing when the database has the schema that this program was built for.
 *
 * @throws ProblemError schema-outdated
 */
export async function assertMigrated({ kysely }: Database): Promise<void> {
  latest ??= migrationNames(ownMigrations).then((names) => names.at(-1) as string)
  const look = sql`select from accepted.migration where name = ${await latest}`.execute(kysely)
  const { rows } = await look.catch((error) => {
    if (errorCode(error) === sqlstate.undefinedTable) return { rows: [] }
    throw error
  })
  if (rows.length > 0) return
  throw new ProblemError('schema-outdated', 'The schema of the database is not current: run `accepted migrate` first.')
}

/** Forward-only migrations from the .sql files of a directory, in the order of their names. */
function sqlFiles(directory: string): MigrationProvider {
  const read = async (name: string): Promise<[string, Migration]> => {
    const text = await readFile(join(directory, `${name}.sql`), 'utf8')
    return [name, { up: async (db) => void (await sql.raw(text).execute(db)) }]
  }
  return {
    async getMigrations() {
      return Object.fromEntries(await Promise.all((await migrationNames(directory)).map(read)))
    },
  }
}

/** One step of a migration that went through. */
export interface MigrationStep {
  whose: 'accepted' | 'app'
  name: string
}

export interface MigrateOptions {
  /** A direct connection, not through a pooler: there are session locks. */
  url: string
  /** The app's own .sql files; they run after ours, with search_path public. */
  appMigrations?: string
  onStep?: (step: MigrationStep) => void
}

/** Who migrates holds this advisory lock; whoever comes second waits, and finds everything done. */
const migrationLock = 7_226_853_417

/**
 * Brings the database up to date: pg-boss's schema, ours, then the app's. Several may run at once.
 *
 * @throws Error naming the migration that failed; it left nothing, and those before it stay
 * @throws ConfigError when the URL leads through a pooler in transaction mode
 */
export async function migrate(options: MigrateOptions): Promise<void> {
  const client = new pg.Client({ connectionString: options.url, application_name: 'accepted migrate' })
  await client.connect()
  try {
    if (await sharesSession(client, options.url)) {
      throw new ConfigError(
        'Migrations need a session of their own, and DATABASE_URL leads through a pooler in transaction mode: set DATABASE_LISTEN_URL to Postgres directly.',
      )
    }
    await client.query('select pg_advisory_lock($1)', [migrationLock])
    await migrateBoss(client)
    await runMigrations(options, { whose: 'accepted', directory: ownMigrations, table: 'migration', path: '' })
    if (options.appMigrations) {
      const directory = options.appMigrations
      await runMigrations(options, { whose: 'app', directory, table: 'app_migration', path: 'public' })
    }
  } finally {
    await client.end()
  }
}

interface Run {
  whose: MigrationStep['whose']
  directory: string
  /** In schema accepted: what has run. */
  table: string
  /** The search_path the files run with; ours name every schema. */
  path: string
}

async function runMigrations({ url, onStep }: MigrateOptions, { whose, directory, table, path }: Run): Promise<void> {
  const pool = new pg.Pool({ connectionString: url, max: 1, application_name: 'accepted migrate' })
  pool.on('connect', (client) => client.query("select set_config('search_path', $1, false)", [path]))
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
  try {
    const { error, results } = await new Migrator({
      db,
      provider: sqlFiles(directory),
      migrationTableSchema: 'accepted',
      migrationTableName: table,
      migrationLockTableName: `${table}_lock`,
    }).migrateToLatest()
    for (const { status, migrationName: name } of results ?? []) if (status === 'Success') onStep?.({ whose, name })
    if (error) {
      const failed = results?.find(({ status }) => status === 'Error')?.migrationName
      const file = failed ? join(directory, `${failed}.sql`) : directory
      throw new Error(`Migration ${file} failed: ${(error as Error).message}`, { cause: error })
    }
    await describe(db, table)
  } finally {
    await db.destroy()
  }
}

/** Kysely makes these tables without a word about them. */
async function describe(db: Kysely<unknown>, table: string): Promise<void> {
  await sql
    .raw(`
      comment on table accepted.${table} is 'The migrations that have run; Kysely keeps it.';
      comment on column accepted.${table}.name is 'The file, without .sql.';
      comment on column accepted.${table}.timestamp is 'When it ran, ISO 8601.';
      comment on table accepted.${table}_lock is 'Kysely''s lock while migrations run.';
      comment on column accepted.${table}_lock.id is 'Always migration_lock.';
      comment on column accepted.${table}_lock.is_locked is 'Unused on Postgres, which has advisory locks.';`)
    .execute(db)
}
