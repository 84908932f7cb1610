// The program is composed here; nothing else in src knows the worker.
import { createWorker, type Handlers, serveHealth } from 'accepted/worker'
import { pino } from 'pino'
import { ConfigError, loadConfig, readSettings, requireDatabaseUrl } from '../config.ts'
import { serializeError } from '../redact.ts'
import { localUrl } from './local-url.ts'
import { askedToStop } from './stopping.ts'

/** `accepted worker`: claims jobs until asked to stop, then ends what it has begun or hands it back. */
export async function worker(options: { config?: string; operations?: string[] }): Promise<void> {
  const stop = askedToStop()
  const settings = readSettings()
  const url = requireDatabaseUrl(settings)
  const config = await loadConfig(options.config)
  const { default: handlers } = (await import(config.handlers)) as { default?: Handlers }
  if (!handlers) throw new ConfigError(`${config.handlers} must have a default export made by defineHandlers.`)
  let health: 'starting' | 'ready' | 'draining' = 'starting'
  const server = await serveHealth(settings.HOST, settings.WORKER_PORT, () => health)
  try {
    const running = await createWorker({
      handlers,
      database: {
        url,
        preparedStatements: settings.DATABASE_PREPARED_STATEMENTS === 'on',
        ...(settings.DATABASE_LISTEN_URL && { listenUrl: settings.DATABASE_LISTEN_URL }),
      },
      publicUrl: settings.PUBLIC_URL ?? localUrl(settings),
      ...(settings.WEBHOOK_ALLOW && { webhookAllow: settings.WEBHOOK_ALLOW.split(',') }),
      log: pino({ level: settings.LOG_LEVEL, serializers: { err: serializeError } }),
      ...(options.operations && { only: options.operations }),
    })
    health = 'ready'
    await stop
    health = 'draining'
    await running.stop()
  } finally {
    await server.close()
  }
}
