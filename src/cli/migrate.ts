import { loadConfig, readSettings, requireDatabaseUrl } from '../config.ts'
import { migrate as run } from '../migrate/migrate.ts'

/** Runs `accepted migrate`: applies the pending migrations and prints their names. */
export async function migrate(options: { config?: string; json?: boolean }): Promise<void> {
  const settings = readSettings()
  const url = requireDatabaseUrl(settings)
  const { migrations } = await loadConfig(options.config)
  const applied: string[] = []
  await run({
    url: settings.DATABASE_LISTEN_URL ?? url,
    ...(migrations && { appMigrations: migrations }),
    onStep: ({ whose, name }) => {
      applied.push(name)
      if (!options.json) console.log(`${whose === 'app' ? 'app     ' : 'accepted'} ${name}`)
    },
  })
  if (options.json) console.log(JSON.stringify({ migrations: applied }))
  else console.log(applied.length > 0 ? 'The database is up to date.' : 'The database is already up to date.')
}
