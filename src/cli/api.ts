import { loadConfig, readSettings, requireDatabaseUrl } from '../config.ts'
import { createServer } from '../http/server.ts'
import { waitForShutdown } from './shutdown.ts'
import { startWorker } from './worker.ts'

/** Runs `accepted api`: serves until the process must stop, then finishes the open requests. */
export async function api(options: { config?: string; withWorker?: boolean }): Promise<void> {
  const settings = readSettings()
  const shutdown = waitForShutdown(settings.GRACE_SECONDS)
  const url = requireDatabaseUrl(settings)
  const config = await loadConfig(options.config)
  const app = await createServer(config, settings, url)
  let worker: Awaited<ReturnType<typeof startWorker>> | undefined
  try {
    await app.listen({ host: settings.HOST, port: settings.PORT })
    if (options.withWorker) worker = await startWorker(config, settings)
    await shutdown
  } finally {
    await Promise.all([app.close(), worker?.stop()])
  }
}
