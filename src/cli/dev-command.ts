import { resolve as resolvePath } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { readOrCreateKeys } from '../embedded-postgres/development-keys.ts'
import { EmbeddedPostgresError } from '../embedded-postgres/embedded-postgres-error.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded-postgres/server.ts'
import { loadConfig } from '../load-config.ts'
import { exitGraceSeconds, readSettings, requireHosts, type Settings } from '../settings.ts'
import { assertPortsFree } from './assert-ports-free.ts'
import { type DevProcess, startDevProcess } from './dev-process.ts'
import { signals, stopExitingOnSignal } from './exit-on-signal.ts'
import { localUrl } from './local-url.ts'

/**
 * A second signal kills API and worker, but only if more than this time has passed since the first signal. One Ctrl-C
 * may cause two signals: one from the terminal and one from npm.
 */
const minKillDelayMs = 1_000
const readyTimeoutMs = 60_000
const readyRequestTimeoutMs = 5_000
const postgresPollIntervalMs = 2_000

/**
 * Runs `accepted dev`. Starts an embedded Postgres if DATABASE_URL is not set, and runs the migrations. Then runs API
 * and worker in two processes or in one. If a process or Postgres ends unexpectedly, stops everything.
 *
 * @param main the path of the command-line program; each process runs this program
 * @returns the exit code
 */
export async function devCommand(options: { config?: string; inProcess?: boolean }, main: string): Promise<number> {
  const settings = readSettings()
  requireHosts(settings)
  const { path: config } = await loadConfig(options.config)
  const stop = listenForStop()
  await assertPortsFree(settings)
  const postgres = settings.DATABASE_URL ? undefined : await startPostgres(settings, stop)
  const keys = settings.ENCRYPTION_KEYS ?? (postgres && (await readOrCreateKeys(postgres.dataDir)))
  const processes: DevProcess[] = []
  const ending = new AbortController()
  const start = (name: string, ...more: string[]) => {
    const started = startDevProcess(name, [main, name, '--config', config, ...more], {
      // At the default log level, messages about normal operation would fill the terminal.
      LOG_LEVEL: 'warn',
      ...process.env,
      DATABASE_URL: postgres?.url ?? settings.DATABASE_URL,
      DATA_DIR: postgres?.dataDir ?? settings.DATA_DIR,
      ...(keys && { ENCRYPTION_KEYS: keys }),
    })
    processes.push(started)
    return started
  }
  try {
    if (stop.requested.aborted) return 0
    printStep('migrations')
    const migrated = await Promise.race([start('migrate').ended, stop.promise])
    if (stop.requested.aborted) return 0
    if (migrated !== 0) return 1
    processes.pop()
    printStep('API and worker')
    const servers = options.inProcess ? [start('api', '--with-worker')] : [start('api'), start('worker')]
    const failed = Promise.race([
      ...servers.map(waitForProcessEnd),
      ...(postgres ? [waitForPostgresEnd(postgres, ending.signal)] : []),
    ])
    const stopped = Promise.race([failed, stop.promise])
    const ready = await waitUntilReady(settings, stopped)
    if (ready) console.log(formatAddresses(settings, postgres))
    const failure = ready === false ? notReady : await stopped
    if (!failure) return 0
    console.error(`error: ${failure}`)
    return 1
  } finally {
    ending.abort()
    await stopProcesses(processes, settings, stop)
    if (postgres) {
      printStep('stopping Postgres')
      await postgres.stop()
    }
  }
}

const notReady = `API and worker were not ready within ${readyTimeoutMs / 1000} s. Their output is above.`

const printStep = (step: string) => console.log(`· ${step}`)

async function waitForProcessEnd({ name, ended }: DevProcess): Promise<string> {
  const result = await ended
  const reason = typeof result === 'number' ? `exit code ${result}` : result
  return `The ${name} process ended unexpectedly (${reason}). Its output is above.`
}

async function waitForPostgresEnd(postgres: EmbeddedPostgres, ending: AbortSignal): Promise<string> {
  while (await postgres.isRunning()) await delay(postgresPollIntervalMs, undefined, { signal: ending })
  return `Postgres ended unexpectedly. Its log is ${postgres.logFile}.`
}

interface StopSignals {
  /** Aborts at the first signal. */
  requested: AbortSignal
  /** Aborts at a later signal. The processes are then killed, even if requests or jobs are running. */
  forced: AbortSignal
  /** Resolves at the first signal. */
  promise: Promise<undefined>
}

function listenForStop(): StopSignals {
  const requested = new AbortController()
  const forced = new AbortController()
  let firstSignalAt: number | undefined
  const onSignal = () => {
    firstSignalAt ??= performance.now()
    if (performance.now() - firstSignalAt > minKillDelayMs) forced.abort()
    requested.abort()
  }
  for (const signal of signals) process.on(signal, onSignal)
  stopExitingOnSignal()
  // If the terminal is closed, writing fails. Ignores this error, because the processes must still be stopped.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  const promise = new Promise<undefined>((resolve) => {
    requested.signal.addEventListener('abort', () => resolve(undefined))
  })
  return { requested: requested.signal, forced: forced.signal, promise }
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

/** @returns true if API and worker are ready, false after the timeout, undefined if `stopped` resolves first */
async function waitUntilReady(settings: Settings, stopped: Promise<unknown>): Promise<boolean | undefined> {
  const urls = [localUrl(settings), localUrl(settings, settings.WORKER_PORT)].map((url) => `${url}/health/ready`)
  const timeout = AbortSignal.timeout(readyTimeoutMs)
  for (;;) {
    const areReady = await Promise.race([Promise.all(urls.map(isReady)), stopped.then(() => undefined)])
    if (!areReady) return undefined
    if (areReady.every(Boolean)) return true
    if (timeout.aborted) return false
    await delay(50)
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(readyRequestTimeoutMs) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}

/** Formats the addresses of the API, the worker and Postgres. */
function formatAddresses(settings: Settings, postgres: EmbeddedPostgres | undefined): string {
  const api = localUrl(settings)
  const lines = [
    ['API', api],
    ['Docs', `${api}/docs`],
    ['Worker', `${localUrl(settings, settings.WORKER_PORT)}/health/ready`],
    ...(postgres ? postgresAddresses(settings, postgres) : []),
  ]
  return `\n${lines.map(([name, value]) => `  ${name?.padEnd(9)} ${value}`).join('\n')}\n\n  Ctrl-C stops everything.\n`
}

function postgresAddresses({ DATA_DIR }: Settings, { url, dataDir, logFile }: EmbeddedPostgres): string[][] {
  const configured = resolvePath(DATA_DIR)
  const reason = dataDir === configured ? '' : ` (the user postgres has no access to ${configured})`
  return [
    ['Postgres', url],
    ['Log', logFile],
    ['Data', `${dataDir}${reason}`],
  ]
}

async function stopProcesses(
  processes: readonly DevProcess[],
  { GRACE_SECONDS }: Settings,
  { forced }: StopSignals,
): Promise<void> {
  if (processes.length === 0) return
  const names = processes.map(({ name }) => name).join(' and ')
  printStep(`stopping ${names}`)
  const kill = () => {
    for (const started of processes) started.kill('SIGKILL')
  }
  // One second longer than the time after which each process exits by itself.
  const stopSeconds = GRACE_SECONDS + exitGraceSeconds + 1
  const timer = setTimeout(() => {
    console.error(`error: ${names} did not stop within ${stopSeconds} s; killing the processes that are still running.`)
    kill()
  }, stopSeconds * 1000)
  forced.addEventListener('abort', kill)
  if (forced.aborted) kill()
  for (const started of processes) started.kill('SIGTERM')
  await Promise.all(processes.map(({ ended }) => ended))
  clearTimeout(timer)
}
