import { createApiServer } from '../http/server.ts'
import { loadConfig } from '../load-config.ts'
import { readSettings, requireDatabaseUrl, requireHosts } from '../settings.ts'
import { assertAccessDecided } from './access-decision.ts'
import { waitForShutdown } from './shutdown.ts'
import { loadHandlers, startWorker } from './worker-command.ts'

/** Runs `accepted api`: serves requests until the process must stop. Requests in progress are still answered. */
export async function apiCommand(options: { config?: string; withWorker?: boolean }): Promise<void> {
  const settings = readSettings()
  requireHosts(settings)
  const url = requireDatabaseUrl(settings)
  const config = await loadConfig(options.config)
  const handlers = options.withWorker ? await loadHandlers(config) : undefined
  const shutdown = waitForShutdown(settings.GRACE_SECONDS)
  const app = await createApiServer(config, settings, url)
  let worker: Awaited<ReturnType<typeof startWorker>> | undefined
  try {
    await assertAccessDecided(app, config, settings)
    await app.listen({ host: settings.HOST, port: settings.PORT })
    if (handlers) worker = await startWorker(handlers, settings)
    await shutdown
    app.log.info('API stops when its open requests are answered')
  } finally {
    await Promise.all([app.close(), worker?.stop()])
  }
  app.log.info('API has stopped')
}
