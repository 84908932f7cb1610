import { loadConfig, readSettings, requireDatabaseUrl } from '../config.ts'
import { createServer } from '../http/server.ts'
import { askedToStop } from './stopping.ts'
import { startWorker } from './worker.ts'

/** `accepted api`: serves until asked to stop, then finishes what it has begun; with a worker in the same process if asked. */
export async function api(options: { config?: string; withWorker?: boolean }): Promise<void> {
  const settings = readSettings()
  const stop = askedToStop(settings.GRACE_SECONDS)
  const url = requireDatabaseUrl(settings)
  const config = await loadConfig(options.config)
  const app = await createServer(config, settings, url)
  let worker: Awaited<ReturnType<typeof startWorker>> | undefined
  try {
    await app.listen({ host: settings.HOST, port: settings.PORT })
    if (options.withWorker) worker = await startWorker(config, settings)
    await stop
  } finally {
    await Promise.all([app.close(), worker?.stop()])
  }
}
