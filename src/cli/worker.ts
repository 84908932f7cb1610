// The program is composed here; nothing else in src knows the worker.
import { chargeUncaught, createWorker, type Handlers, serveHealth, startWatchdog, type Worker } from 'accepted/worker'
import {
  type Config,
  ConfigError,
  databaseOptions,
  loadConfig,
  readSettings,
  requireDatabaseUrl,
  type Settings,
} from '../config.ts'
import { createLog } from '../log.ts'
import { localUrl } from './local-url.ts'
import { askedToStop } from './stopping.ts'
import { watchUncaught } from './uncaught.ts'

/** `accepted worker`: claims jobs until asked to stop, then ends what it has begun or hands it back. */
export async function worker(options: { config?: string; operations?: string[] }): Promise<void> {
  const settings = readSettings()
  const stop = askedToStop(settings.GRACE_SECONDS)
  requireDatabaseUrl(settings)
  const running = await startWorker(await loadConfig(options.config), settings, options.operations)
  await stop
  await running.stop()
}

/** Starts the worker of a configuration, and what tells of its health. */
export async function startWorker(
  config: Config,
  settings: Settings,
  only?: readonly string[],
): Promise<{ stop(): Promise<void> }> {
  const url = requireDatabaseUrl(settings)
  const { default: handlers } = (await import(config.handlers)) as { default?: Handlers }
  if (!handlers) throw new ConfigError(`${config.handlers} must have a default export made by defineHandlers.`)
  const log = createLog({ level: settings.LOG_LEVEL })
  const unwatch = watchUncaught(log, chargeUncaught)
  const heartbeats = [...handlers.operations.values()].map(({ heartbeatSeconds }) => heartbeatSeconds)
  // By then its jobs have been taken back.
  const watchdog = startWatchdog(2 * Math.min(...heartbeats) * 1000)
  let running: Worker | undefined
  const health = await serveHealth(settings.HOST, settings.WORKER_PORT, () => running)
  const stop = async () => {
    try {
      await running?.stop()
    } finally {
      await health.close()
      await watchdog.stop()
      unwatch()
    }
  }
  try {
    running = await createWorker({
      handlers,
      database: databaseOptions(settings, url),
      publicUrl: settings.PUBLIC_URL ?? localUrl(settings),
      graceSeconds: settings.GRACE_SECONDS,
      ...(settings.WEBHOOK_ALLOW && { webhookAllow: settings.WEBHOOK_ALLOW.split(',') }),
      log,
      ...(only && { only }),
    })
    return { stop }
  } catch (error) {
    await stop()
    throw error
  }
}
