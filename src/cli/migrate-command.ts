import { isOperation } from '../collect-operations.ts'
import { builtInOperations } from '../jobs/built-in.ts'
import { loadConfig } from '../load-config.ts'
import { migrate, printMigration } from '../migrate/migrate.ts'
import { rolesForDba } from '../migrate/roles.ts'
import { readSettings, requireDatabaseUrl } from '../settings.ts'
import type { OutputOptions } from './output-options.ts'
import { createLiveLine } from './progress-bar.ts'

interface MigrateCommandOptions extends OutputOptions {
  config?: string
  dryRun?: boolean
  roles?: boolean
}

/**
 * Runs `accepted migrate`: applies the pending migrations and prints the name of each one that is committed. With
 * `--dry-run`, prints their SQL instead. With `--roles`, prints the SQL that creates the roles.
 */
export async function migrateCommand(options: MigrateCommandOptions): Promise<void> {
  if (options.roles) return console.log(options.json ? JSON.stringify({ sql: rolesForDba() }) : rolesForDba().trim())
  const settings = readSettings()
  const url = requireDatabaseUrl(settings)
  const { migrations, operations } = await loadConfig(options.config)
  const database = {
    url: settings.DATABASE_LISTEN_URL ?? url,
    operations: [...Object.values(operations).filter(isOperation), ...builtInOperations],
    ...(migrations && { appMigrations: migrations }),
  }
  if (options.dryRun) {
    const sql = await printMigration(database)
    console.log(options.json ? JSON.stringify({ sql }) : sql || '-- The database is already up to date.')
    return
  }
  const applied: string[] = []
  const line = createLiveLine()
  try {
    await migrate({
      ...database,
      onBegin: ({ name }, { number, total }) =>
        line.show((100 * (number - 1)) / total, `${number} of ${total}  ${name}`),
      onStep: ({ source, name }) => {
        line.clear()
        applied.push(name)
        if (!options.json) console.log(`${source === 'app' ? 'app     ' : 'accepted'} ${name}`)
      },
      // Standard output is for the migrations.
      onNote: (note) => console.error(note),
      onWait: (holder) => console.error(`Waiting for another migration, in the session with process id ${holder}…`),
    })
  } finally {
    line.clear()
    // Also after a failure: the migrations before it are committed.
    if (options.json) console.log(JSON.stringify({ migrations: applied }))
  }
  if (options.json) return
  console.log(applied.length > 0 ? 'The database is up to date.' : 'The database is already up to date.')
}
