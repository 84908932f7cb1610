import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { readOrCreateKeys } from '../embedded-postgres/development-keys.ts'
import { EmbeddedPostgresError } from '../embedded-postgres/embedded-postgres-error.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded-postgres/server.ts'
import { loadConfig } from '../load-config.ts'
import { readSettings, requireHosts, type Settings } from '../settings.ts'
import { assertPortsFree } from './assert-ports-free.ts'
import { startDevProcess } from './dev-process.ts'
import { type Dev, runServers } from './dev-servers.ts'
import { printStep } from './dev-step.ts'
import { listenForStop, type StopSignals } from './dev-stop.ts'
import { restartOnChange } from './dev-watch.ts'

const postgresPollIntervalMs = 2_000

interface DevOptions {
  config?: string
  inProcess?: boolean
  watch?: boolean
}

/**
 * Runs `accepted dev`. Starts an embedded Postgres if DATABASE_URL is not set, and runs the migrations. Then runs API
 * and worker in two processes or in one. If a process ends unexpectedly, starts it again. If it ends before it is ready,
 * or if Postgres ends, stops everything; with `watch`, a process that cannot start waits for a change of the source files.
 *
 * @param main the path of the command-line program; each process runs this program
 * @returns the exit code
 */
export async function devCommand(options: DevOptions, main: string): Promise<number> {
  const settings = readSettings()
  requireHosts(settings)
  const { path: config } = await loadConfig(options.config)
  const stop = listenForStop()
  await assertPortsFree(settings)
  const postgres = settings.DATABASE_URL ? undefined : await startPostgres(settings, stop)
  const keys = settings.ENCRYPTION_KEYS ?? (postgres && (await readOrCreateKeys(postgres.dataDir)))
  const env = {
    ...process.env,
    DATABASE_URL: postgres?.url ?? settings.DATABASE_URL,
    DATA_DIR: postgres?.dataDir ?? settings.DATA_DIR,
    ...(keys && { ENCRYPTION_KEYS: keys }),
  }
  const ending = new AbortController()
  const dev: Dev = {
    settings,
    postgres,
    stop,
    postgresEnded: postgres ? waitForPostgresEnd(postgres, ending.signal) : new Promise(() => {}),
    servers: options.inProcess
      ? [{ command: ['api', '--with-worker'], ports: ['PORT', 'WORKER_PORT'] }]
      : [
          { command: ['api'], ports: ['PORT'] },
          { command: ['worker'], ports: ['WORKER_PORT'] },
        ],
    start: ([name, ...more]) => {
      // A developer wants to see each attempt. An error of `migrate` is one sentence without this level.
      const defaults = name === 'migrate' ? {} : { LOG_LEVEL: 'debug' }
      return startDevProcess(name, [main, name, '--config', config, ...more], { ...defaults, ...env })
    },
  }
  try {
    if (stop.requested.aborted) return 0
    const ended = options.watch
      ? await restartOnChange(dev, dirname(config))
      : await runServers(dev, { migrates: true, changed: new Promise(() => {}) })
    if (ended.reason !== 'failed') return 0
    if (ended.message) console.error(`error: ${ended.message}`)
    return 1
  } finally {
    ending.abort()
    if (postgres) {
      printStep('stopping Postgres')
      await postgres.stop()
    }
  }
}

/** Resolves to the reason when Postgres ends unexpectedly. After `ending` has aborted, never settles. */
async function waitForPostgresEnd(postgres: EmbeddedPostgres, ending: AbortSignal): Promise<string> {
  while (await postgres.isRunning()) {
    if (await delay(postgresPollIntervalMs, false, { signal: ending }).catch(() => true)) return new Promise(() => {})
  }
  return `Postgres ended unexpectedly. Its log is ${postgres.logFile}.`
}

/** @returns undefined if a stop signal interrupted the start of Postgres */
async function startPostgres(
  settings: Settings,
  { requested, forced }: StopSignals,
): Promise<EmbeddedPostgres | undefined> {
  printStep('Postgres')
  // The next start takes over what this start leaves behind.
  const exitNow = () => process.exit(1)
  forced.addEventListener('abort', exitNow)
  try {
    return await startEmbeddedPostgres({ dataDir: settings.DATA_DIR })
  } catch (error) {
    // Ctrl-C also ends a Postgres program that is still in this process group. This is not an error.
    if (requested.aborted && error instanceof EmbeddedPostgresError && error.code === 'interrupted') return undefined
    throw error
  } finally {
    forced.removeEventListener('abort', exitNow)
  }
}
