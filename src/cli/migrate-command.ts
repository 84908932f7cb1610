import { loadConfig, readSettings, requireDatabaseUrl } from '../config.ts'
import { migrate } from '../migrate/migrate.ts'
import type { OutputOptions } from './output-options.ts'

/** Runs `accepted migrate`: applies the pending migrations and prints their names. */
export async function migrateCommand(options: OutputOptions & { config?: string }): Promise<void> {
  const settings = readSettings()
  const url = requireDatabaseUrl(settings)
  const { migrations } = await loadConfig(options.config)
  const applied: string[] = []
  await migrate({
    url: settings.DATABASE_LISTEN_URL ?? url,
    ...(migrations && { appMigrations: migrations }),
    onStep: ({ source, name }) => {
      applied.push(name)
      if (!options.json) console.log(`${source === 'app' ? 'app     ' : 'accepted'} ${name}`)
    },
  })
  if (options.json) console.log(JSON.stringify({ migrations: applied }))
  else console.log(applied.length > 0 ? 'The database is up to date.' : 'The database is already up to date.')
}
