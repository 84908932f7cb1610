import { createLog } from '../primitives/log.ts'
import { readSettings, requireDatabaseUrl, requireHosts } from '../settings.ts'
import { parseProcesses } from './processes/count.ts'
import { joinProcesses } from './processes/membership.ts'
import { runProcesses } from './processes/run-processes.ts'
import { waitForShutdown } from './shutdown.ts'

/**
 * A process whose event loop is blocked for about 30 s is killed. A single process is killed by its supervisor instead,
 * when it does not answer /health/live.
 */
const maxUnanswered = 3

interface ApiOptions {
  config?: string
  withWorker?: boolean
  processes?: string
}

/** Runs `accepted api`: serves requests until the process must stop. Requests in progress are still answered. */
export async function apiCommand(options: ApiOptions): Promise<void> {
  const settings = readSettings()
  requireHosts(settings)
  const url = requireDatabaseUrl(settings)
  const count = parseProcesses(options.processes)
  const membership = joinProcesses()
  if (count > 1 && !membership) {
    const log = createLog({ level: settings.LOG_LEVEL })
    return runProcesses({ name: 'API', count, graceSeconds: settings.GRACE_SECONDS, log, maxUnanswered })
  }
  // The primary process of several does without these, and without --with-worker so does the API without the worker.
  const { createApiServer } = await import('../http/server.ts')
  const { loadConfig } = await import('../load-config.ts')
  const { assertAccessDecided } = await import('./access-decision.ts')
  const worker = options.withWorker ? await import('./start-worker.ts') : undefined
  const config = await loadConfig(options.config)
  const handlers = await worker?.loadHandlers(config)
  const shutdown = waitForShutdown(settings.GRACE_SECONDS, membership?.stopRequested)
  const app = await createApiServer(config, settings, url, membership?.shareMetrics)
  let running: { stop(): Promise<void> } | undefined
  try {
    await assertAccessDecided(app, config, settings)
    await app.listen({ host: settings.HOST, port: settings.PORT })
    if (handlers) running = await worker?.startWorker(handlers, settings)
    membership?.reportReady()
    await shutdown
    app.log.info('API stops when its open requests are answered')
  } finally {
    await Promise.all([app.close(), running?.stop()])
  }
  app.log.info('API has stopped')
}
