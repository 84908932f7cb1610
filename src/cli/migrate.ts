import { loadConfig, readSettings, requireDatabaseUrl } from '../config.ts'
import { migrate as run } from '../db/migrate.ts'

/** `accepted migrate`: brings the database up to date and says what it did. */
export async function migrate(options: { config?: string; json?: boolean }): Promise<void> {
  const settings = readSettings()
  const url = requireDatabaseUrl(settings)
  const { migrations } = await loadConfig(options.config)
  const steps: string[] = []
  await run({
    url: settings.DATABASE_LISTEN_URL ?? url,
    ...(migrations && { appMigrations: migrations }),
    onStep: ({ whose, name }) => {
      steps.push(name)
      if (!options.json) console.log(`${whose === 'app' ? 'app     ' : 'accepted'} ${name}`)
    },
  })
  if (options.json) console.log(JSON.stringify({ migrations: steps }))
  else console.log(steps.length > 0 ? 'The database is up to date.' : 'The database was up to date.')
}
