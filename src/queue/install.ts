import { getConstructionPlans, PgBoss } from 'pg-boss'
import { ConfigError } from '../config.ts'
import { queueSchema } from './schema.ts'

/** Runs a statement and returns its rows, with each value as a text. */
type Query = (text: string) => Promise<Record<string, string | null>[]>

/** The version of the schema that this version of pg-boss installs and needs. */
const neededVersion = /INSERT INTO \S+version\(version\) VALUES \('(\d+)'\)/.exec(
  getConstructionPlans(queueSchema),
)?.[1] as string

const readState = `
  select (select string_agg(relname, ', ' order by relname) from pg_class
      where relnamespace = to_regnamespace('${queueSchema}') and relkind in ('r', 'p', 'v', 'm', 'f')) as tables,
    (select 'yes' from pg_attribute where attrelid = to_regclass('${queueSchema}.version') and attname = 'version')
      as has_version,
    (select 'yes' from pg_class where oid = to_regclass('${queueSchema}.queue')) as has_queues`

/**
 * Finds out how to install pg-boss's tables into its schema, which must exist when the SQL runs.
 *
 * @returns the SQL from pg-boss's published plans, which has its own BEGIN and COMMIT; undefined when the schema is
 *   installed
 * @throws ConfigError when the schema belongs to another program, or to another version of pg-boss
 */
export async function planQueueSchema(query: Query): Promise<string | undefined> {
  const [state] = await query(readState)
  if (!state?.tables) return getConstructionPlans(queueSchema, { createSchema: false })
  if (!state.has_version || !state.has_queues) {
    throw new ConfigError(
      `The schema ${queueSchema} holds tables of another program (${state.tables}). Rename that schema, or use another database.`,
    )
  }
  const [found] = await query(`select max(version)::text as version from ${queueSchema}.version`)
  const version = found?.version
  if (version === neededVersion) return undefined
  const advice =
    Number(version) > Number(neededVersion)
      ? 'A newer release of Accepted has migrated it: run that release.'
      : 'Accepted did not install it: rename that schema, or use another database.'
  throw new ConfigError(
    `The schema ${queueSchema} has version ${version ?? 'none'} of pg-boss, but this release needs version ${neededVersion}. ${advice}`,
  )
}

/** Returns the parts of pg-boss's schema that do not exist although the schema is installed, such as `table x`. */
export async function findMissingQueueParts(query: Query): Promise<string[]> {
  const boss = new PgBoss({
    db: { executeSql: async (text) => ({ rows: await query(text) }) },
    schema: queueSchema,
    migrate: false,
    schedule: false,
    supervise: false,
  })
  const { missingTables, missing, missingFunctions, columnDrift } = await boss.detectSchemaDrift()
  return [
    ...missingTables.map((table) => `table ${queueSchema}.${table}`),
    ...columnDrift.flatMap(({ table, missingColumns }) =>
      missingTables.includes(table) ? [] : missingColumns.map((column) => `column ${queueSchema}.${table}.${column}`),
    ),
    ...missing.flatMap(({ table, name }) => (missingTables.includes(table) ? [] : [`index ${queueSchema}.${name}`])),
    ...missingFunctions.map(({ name }) => `function ${queueSchema}.${name}`),
  ]
}
