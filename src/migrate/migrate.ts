import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Kysely, PostgresDialect, sql } from 'kysely'
import { type Migration, type MigrationProvider, Migrator } from 'kysely/migration'
import pg from 'pg'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import { sharesSession } from '../db/pooler.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { ProblemError } from '../errors.ts'
import { migrateBoss } from '../queue/boss.ts'

/** The directory of our own migrations. They are part of the package. */
const ownMigrations = join(fileURLToPath(new URL('.', import.meta.resolve('accepted/package.json'))), 'migrations')

// Does not match schema.sql in the same directory. That file shows the resulting schema and is not a migration.
const migrationFile = /^(\d{4}_[a-z0-9_]+)\.sql$/

async function migrationNames(directory: string): Promise<string[]> {
  return (await readdir(directory)).flatMap((file) => migrationFile.exec(file)?.[1] ?? []).sort()
}

let latestName: Promise<string> | undefined

/**
 * Checks that all migrations of this package have run.
 *
 * @throws ProblemError schema-outdated
 */
export async function assertMigrated({ kysely }: Database): Promise<void> {
  latestName ??= migrationNames(ownMigrations).then((names) => names.at(-1) as string)
  const found = sql`select from accepted.migration where name = ${await latestName}`.execute(kysely)
  const { rows } = await found.catch((error) => {
    if (errorCode(error) === sqlstate.undefinedTable) return { rows: [] }
    throw error
  })
  if (rows.length > 0) return
  throw new ProblemError('schema-outdated', 'The database schema is outdated: run `accepted migrate` first.')
}

/** Provides the .sql files of a directory as forward-only migrations, in the order of their names. */
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

/** A migration that has run. */
export interface MigrationStep {
  source: 'accepted' | 'app'
  name: string
}

export interface MigrateOptions {
  /** The URL must not lead through a pooler in transaction mode, because migrations take session locks. */
  url: string
  /** Directory of the app's own .sql files. They run after our own migrations, with `search_path` set to `public`. */
  appMigrations?: string
  onStep?: (step: MigrationStep) => void
}

/**
 * Key of the advisory lock that serialises concurrent migrations. A process that waited for the lock then finds nothing
 * to do.
 */
const migrationLockKey = 7_226_853_417

/**
 * Migrates the schema of pg-boss, then our own schema, and then the app's schema. Several processes may call this
 * function at the same time.
 *
 * @throws Error that names the file of the failed migration. All migrations of the same directory that this call has
 *   run are rolled back. All other migrations stay applied.
 * @throws ConfigError when the URL leads through a pooler in transaction mode
 */
export async function migrate(options: MigrateOptions): Promise<void> {
  const client = new pg.Client({ connectionString: options.url, application_name: 'accepted migrate' })
  await client.connect()
  try {
    if (await sharesSession(client, options.url)) {
      throw new ConfigError(
        'Migrations need a session of their own, but DATABASE_URL leads through a pooler in transaction mode: ' +
          'set DATABASE_LISTEN_URL to the URL of Postgres itself.',
      )
    }
    await client.query('select pg_advisory_lock($1)', [migrationLockKey])
    await migrateBoss(client)
    await runMigrations(options, { source: 'accepted', directory: ownMigrations, table: 'migration', searchPath: '' })
    if (options.appMigrations) {
      const directory = options.appMigrations
      await runMigrations(options, { source: 'app', directory, table: 'app_migration', searchPath: 'public' })
    }
  } finally {
    await client.end()
  }
}

interface MigrationSet {
  source: MigrationStep['source']
  directory: string
  /** Name of the table in schema `accepted` that lists the migrations that have run. */
  table: string
  /** The `search_path` for the files. It is empty for our own files, because they qualify every name. */
  searchPath: string
}

async function runMigrations({ url, onStep }: MigrateOptions, set: MigrationSet): Promise<void> {
  const { source, directory, table, searchPath } = set
  const pool = new pg.Pool({ connectionString: url, max: 1, application_name: 'accepted migrate' })
  // The process must not end when an idle connection breaks. The next statement reports the error.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.query("select set_config('search_path', $1, false)", [searchPath]))
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
  try {
    const { error, results } = await new Migrator({
      db,
      provider: sqlFiles(directory),
      migrationTableSchema: 'accepted',
      migrationTableName: table,
      migrationLockTableName: `${table}_lock`,
    }).migrateToLatest()
    for (const { status, migrationName: name } of results ?? []) if (status === 'Success') onStep?.({ source, name })
    if (error) {
      const failed = results?.find(({ status }) => status === 'Error')?.migrationName
      const file = failed ? join(directory, `${failed}.sql`) : directory
      throw new Error(`Migration ${file} failed: ${(error as Error).message}`, { cause: error })
    }
    await commentTables(db, table)
  } finally {
    await db.destroy()
  }
}

/** Adds comments to the tables that Kysely has created. */
async function commentTables(db: Kysely<unknown>, table: string): Promise<void> {
  await sql
    .raw(`
      comment on table accepted.${table} is 'Migrations that have run; maintained by Kysely.';
      comment on column accepted.${table}.name is 'File name without .sql.';
      comment on column accepted.${table}.timestamp is 'When the migration ran, ISO 8601.';
      comment on table accepted.${table}_lock is 'Kysely''s lock for running migrations.';
      comment on column accepted.${table}_lock.id is 'Always migration_lock.';
      comment on column accepted.${table}_lock.is_locked is 'Unused. On Postgres, Kysely takes an advisory lock instead.';`)
    .execute(db)
}
