import { dirname } from 'node:path'
import { ConfigError } from '../config.ts'
import type { MigrationFile } from './files.ts'
import type { MigrationSession } from './session.ts'

type Source = MigrationFile['source']

/** The tables that list the migrations that have run. */
const tables: Readonly<Record<Source, string>> = { accepted: 'accepted.migration', app: 'accepted.app_migration' }

const createTables = Object.values(tables)
  .map(
    (table) => `
create table ${table} (
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now(),
  constraint ${table.replace('accepted.', '')}_pkey primary key (name)
);
comment on table ${table} is 'Migrations that have run. The command accepted migrate writes this table.';
comment on column ${table}.name is 'File name without .sql.';
comment on column ${table}.checksum is 'SHA-256 of the file. A file that has run must not change.';
comment on column ${table}.applied_at is 'When the migration ran.';
`,
  )
  .join('')

const readState = `
  select (select string_agg(relname, ', ' order by relname) from pg_class
      where relnamespace = to_regnamespace('accepted') and relkind in ('r', 'p', 'v', 'm', 'f')) as tables,
    (select string_agg(attrelid::regclass::text, ' ') from pg_attribute where attname = 'checksum'
      and attrelid in (to_regclass('${tables.accepted}'), to_regclass('${tables.app}'))) as history`

/**
 * Finds out how to create the tables of applied migrations in our schema, which must exist when the SQL runs.
 *
 * @returns SQL; undefined when the tables exist
 * @throws ConfigError when the schema holds tables of another program, or only one of these tables
 */
export async function planHistory(session: MigrationSession): Promise<string | undefined> {
  const [state] = await session.query(readState)
  const history = state?.history?.split(' ') ?? []
  const lost = Object.values(tables).find((table) => !history.includes(table))
  if (!lost) return undefined
  if (history.length > 0) {
    throw new ConfigError(
      `The table ${lost} is missing, so it is not known which migrations have run. Restore it from a backup.`,
    )
  }
  if (state?.tables) {
    throw new ConfigError(
      `The schema accepted holds tables of another program, or of a version before the first release (${state.tables}). Rename that schema, or use another database.`,
    )
  }
  return createTables
}

/** Returns the statement that records that a migration has run. */
export const recordMigration = ({ source, name, checksum }: MigrationFile): string =>
  `insert into ${tables[source]} (name, checksum) values ('${name}', '${checksum}');`

/**
 * Returns the migrations that have not run yet.
 *
 * @param files all migrations of one source
 * @throws ConfigError when a file has changed or disappeared after it has run, or comes before one that has run
 */
export async function findPending(
  session: MigrationSession,
  source: Source,
  files: readonly MigrationFile[],
): Promise<readonly MigrationFile[]> {
  const rows = await session.query(`select name, checksum from ${tables[source]} order by name collate "C"`)
  const applied = new Map(rows.map(({ name, checksum }) => [name as string, checksum]))
  const missing = [...applied.keys()].find((name) => !files.some((file) => file.name === name))
  if (missing) throw new ConfigError(missingSentence(source, missing, files))
  const changed = files.find(({ name, checksum }) => applied.has(name) && applied.get(name) !== checksum)
  if (changed) throw new ConfigError(changedSentence(changed))
  const pending = files.filter(({ name }) => !applied.has(name))
  const last = [...applied.keys()].at(-1)
  const late = pending.find(({ name }) => last !== undefined && name < last)
  if (late) {
    throw new ConfigError(
      `The migration ${late.path} comes before ${last}, which has run already. Give it a number after that of ${last}.`,
    )
  }
  return pending
}

function missingSentence(source: Source, name: string, files: readonly MigrationFile[]): string {
  if (source === 'accepted') {
    return `A newer release of Accepted has migrated the database (${name}). Run \`accepted migrate\` of that release.`
  }
  const where = files[0] ? `in ${dirname(files[0].path)}` : 'in the directory of migrations'
  return `The migration ${name} has run already, but there is no ${name}.sql ${where}. Restore the file.`
}

const changedSentence = ({ source, path, name }: MigrationFile): string =>
  source === 'accepted'
    ? `The migration ${name} ran with another text than that of this release of Accepted. Run the release that migrated the database, or use another database.`
    : `The migration ${path} has changed after it ran. Undo the change, and put it into a new file.`
