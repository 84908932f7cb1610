// The only file in src that imports the worker.
import { createWorker, failUncaught, type Handlers, startWatchdog, type Worker } from 'accepted/worker'
import { collectOperations } from '../collect-operations.ts'
import { type Config, ConfigError } from '../config.ts'
import { isUsageError, locate, showThrown } from '../error-location.ts'
import { createLog } from '../primitives/log.ts'
import { collectSchedules } from '../schedule.ts'
import { databaseOptions, requireDatabaseUrl, type Settings } from '../settings.ts'
import { importModule } from '../user-module.ts'
import { findDisagreement } from './disagreement.ts'
import { localUrl } from './local-url.ts'
import type { Membership } from './processes/membership.ts'
import { handleUncaughtErrors } from './uncaught-errors.ts'
import { serveWorkerHealth } from './worker-health.ts'

/**
 * Starts a worker with its watchdog and, unless it is one of several processes, its health server.
 *
 * @param options.operations the names of the operations whose jobs to claim; default: all
 * @returns an object whose `stop` stops the worker, the health server and the watchdog
 */
export async function startWorker(
  handlers: Handlers,
  settings: Settings,
  { operations, membership }: { operations?: readonly string[]; membership?: Membership | undefined } = {},
): Promise<{ stop(): Promise<void> }> {
  const url = requireDatabaseUrl(settings)
  const log = createLog({ level: settings.LOG_LEVEL, format: settings.LOG_FORMAT })
  const removeErrorListeners = handleUncaughtErrors(log, failUncaught)
  const heartbeats = [...handlers.operations.values()].map(({ heartbeatSeconds }) => heartbeatSeconds)
  // If the event loop is blocked for this long, other workers have already rescued the jobs of this worker.
  const watchdog = startWatchdog(2 * Math.min(...heartbeats) * 1000)
  let running: Worker | undefined
  const health = membership ? undefined : await serveWorkerHealth(settings, log, () => running)
  const stop = async () => {
    try {
      await running?.stop()
    } finally {
      await health?.close()
      await watchdog.stop()
      removeErrorListeners()
    }
  }
  try {
    running = await createWorker({
      handlers,
      database: databaseOptions(settings, url),
      publicUrl: settings.PUBLIC_URL ?? localUrl(settings),
      graceSeconds: settings.GRACE_SECONDS,
      ...(settings.ENCRYPTION_KEYS && { encryptionKeys: settings.ENCRYPTION_KEYS }),
      ...(settings.WEBHOOK_ALLOW && { webhookAllow: settings.WEBHOOK_ALLOW.split(',') }),
      log,
      ...(operations && { operations }),
    })
    membership?.provideMetrics(running.metricValues)
    membership?.reportReady(running.health)
    return { stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * Loads the handlers.
 *
 * @throws ConfigError when they and the configuration have different operations or schedules: the jobs of an operation
 *   without a handler would wait forever
 */
export async function loadHandlers(config: Config): Promise<Handlers> {
  const { default: handlers } = (await importModule(config.handlers)) as { default?: Handlers }
  if (typeof handlers?.load !== 'function') {
    throw new ConfigError(`${config.handlers} must export defineHandlers(…) as its default export.`)
  }
  const operations = collectOperations(config.operations)
  const schedules = collectSchedules(config.operations, operations)
  const disagreement = findDisagreement({ operations, schedules }, handlers)
  if (disagreement) throw new ConfigError(`The configuration and ${config.handlers} disagree: ${disagreement}`)
  return { ...handlers, load: (dependencies) => nameFile(config.handlers, handlers.load(dependencies)) }
}

/** Names the file in an error that defineHandlers throws when the handlers are created: its stack does not. */
async function nameFile<Result>(file: string, created: Promise<Result>): Promise<Result> {
  try {
    return await created
  } catch (error) {
    if (error instanceof Error && !isUsageError(error)) throw error
    if (locate(error)) throw error
    const text = error instanceof Error ? error.message : `creating the handlers threw ${showThrown(error)}`
    throw new ConfigError(`${file}: ${text}`, { cause: error })
  }
}
