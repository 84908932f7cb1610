import { createLog } from '../primitives/log.ts'
import { readSettings, requireDatabaseUrl, type Settings } from '../settings.ts'
import { parseProcesses } from './processes/count.ts'
import { joinProcesses } from './processes/membership.ts'
import { runProcesses } from './processes/run-processes.ts'
import { waitForShutdown } from './shutdown.ts'
import { serveWorkerHealth } from './worker-health.ts'

interface WorkerOptions {
  config?: string
  operations?: string[]
  processes?: string
}

/** Runs `accepted worker`: claims jobs until the process must stop. Then finishes or releases the running jobs. */
export async function workerCommand(options: WorkerOptions): Promise<void> {
  const settings = readSettings()
  requireDatabaseUrl(settings)
  const count = parseProcesses(options.processes)
  const membership = joinProcesses()
  if (count > 1 && !membership) return runWorkers(count, settings)
  // The primary process of several does without these.
  const { loadConfig } = await import('../load-config.ts')
  const { loadHandlers, startWorker } = await import('./start-worker.ts')
  // Until the handlers are loaded, a signal ends the process at once.
  const handlers = await loadHandlers(await loadConfig(options.config))
  const shutdown = waitForShutdown(settings.GRACE_SECONDS, membership?.stopRequested)
  const running = await startWorker(handlers, settings, { ...options, membership })
  await shutdown
  await running.stop()
}

/** Runs several workers. The primary process answers for them on WORKER_PORT. */
async function runWorkers(count: number, settings: Settings): Promise<void> {
  const log = createLog({ level: settings.LOG_LEVEL })
  const { GRACE_SECONDS: graceSeconds } = settings
  await runProcesses({ name: 'Worker', count, graceSeconds, log }, async (group) =>
    serveWorkerHealth(settings, log, () => group),
  )
}
