import { loadConfig, readSettings, requireDatabaseUrl } from '../config.ts'
import { createServer } from '../http/server.ts'
import { askedToStop } from './stopping.ts'

/** `accepted api`: serves until asked to stop, then finishes what it has begun. */
export async function api(options: { config?: string }): Promise<void> {
  const stop = askedToStop()
  const settings = readSettings()
  const url = requireDatabaseUrl(settings)
  const app = await createServer(await loadConfig(options.config), settings, url)
  try {
    await app.listen({ host: settings.HOST, port: settings.PORT })
    await stop
  } finally {
    await app.close()
  }
}
