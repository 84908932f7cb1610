import { resolve as resolvePath } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { exitGraceSeconds, loadConfig, readSettings, type Settings } from '../config.ts'
import { EmbeddedPostgresError } from '../embedded-postgres/errors.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded-postgres/server.ts'
import { assertPortsFree } from './assert-ports-free.ts'
import { type DevProcess, startDevProcess } from './dev-process.ts'
import { localUrl } from './local-url.ts'

/** npm and the terminal may both send the same Ctrl-C. Signals this close together count once. */
const sameSignalMs = 1_000
const readyTimeoutMs = 60_000
const readyRequestTimeoutMs = 5_000
const postgresPollIntervalMs = 2_000

/**
 * Runs `accepted dev`: an embedded Postgres when DATABASE_URL is not set, the migrations, then API and worker as two
 * processes or as one. When one of them ends by itself, stops the others.
 *
 * @param main path of the command line program, which runs the processes
 * @returns the exit code
 */
export async function dev(options: { config?: string; inProcess?: boolean }, main: string): Promise<number> {
  const settings = readSettings()
  const { path: config } = await loadConfig(options.config)
  const stop = listenForStop()
  await assertPortsFree(settings)
  const postgres = settings.DATABASE_URL ? undefined : await startPostgres(settings, stop.requested)
  const processes: DevProcess[] = []
  const ending = new AbortController()
  const start = (name: string, ...more: string[]) => {
    const started = startDevProcess(name, [main, name, '--config', config, ...more], {
      // Lines that report normal operation would fill the terminal.
      LOG_LEVEL: 'warn',
      ...process.env,
      DATABASE_URL: postgres?.url ?? settings.DATABASE_URL,
      DATA_DIR: postgres?.dataDir ?? settings.DATA_DIR,
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
    if (ready) console.log(describe(settings, postgres))
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
  const how = await ended
  return `The ${name} process ended unexpectedly (${typeof how === 'number' ? `exit code ${how}` : how}). Its output is above.`
}

async function waitForPostgresEnd(postgres: EmbeddedPostgres, ending: AbortSignal): Promise<string> {
  while (await postgres.isRunning()) await delay(postgresPollIntervalMs, undefined, { signal: ending })
  return `Postgres ended unexpectedly. Its log is ${postgres.logFile}.`
}

interface StopSignals {
  /** Aborts with the first signal. */
  requested: AbortSignal
  /** Aborts with a later signal: do not wait for running requests and jobs. */
  forced: AbortSignal
  /** Resolves with the first signal. */
  promise: Promise<undefined>
}

function listenForStop(): StopSignals {
  const requested = new AbortController()
  const forced = new AbortController()
  let firstSignalAt: number | undefined
  const onSignal = () => {
    firstSignalAt ??= performance.now()
    if (performance.now() - firstSignalAt > sameSignalMs) forced.abort()
    requested.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  // Writing fails once the terminal is closed, but the processes must still be stopped.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  const promise = new Promise<undefined>((resolve) => {
    requested.signal.addEventListener('abort', () => resolve(undefined))
  })
  return { requested: requested.signal, forced: forced.signal, promise }
}

/** @returns undefined when a stop signal interrupted the start */
async function startPostgres(settings: Settings, stopRequested: AbortSignal): Promise<EmbeddedPostgres | undefined> {
  printStep('Postgres')
  try {
    return await startEmbeddedPostgres({ dataDir: settings.DATA_DIR })
  } catch (error) {
    // A Ctrl-C may reach a Postgres program before it has left this process group.
    if (stopRequested.aborted && error instanceof EmbeddedPostgresError && error.code === 'interrupted')
      return undefined
    throw error
  }
}

/** @returns true when API and worker are ready, false after the timeout, undefined when they stopped first */
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

function describe(settings: Settings, postgres: EmbeddedPostgres | undefined): string {
  const api = localUrl(settings)
  const lines = [
    ['API', api],
    ['Docs', `${api}/docs`],
    ['Worker', `${localUrl(settings, settings.WORKER_PORT)}/health/ready`],
    ...(postgres ? describePostgres(settings, postgres) : []),
  ]
  return `\n${lines.map(([name, value]) => `  ${name?.padEnd(9)} ${value}`).join('\n')}\n\n  Ctrl-C stops everything.\n`
}

function describePostgres({ DATA_DIR }: Settings, { url, dataDir, logFile }: EmbeddedPostgres): string[][] {
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
  // Slightly longer than the processes need at most.
  const stopSeconds = GRACE_SECONDS + exitGraceSeconds + 1
  const timer = setTimeout(() => {
    console.error(`error: The ${names} did not stop within ${stopSeconds} s; killing what is left.`)
    kill()
  }, stopSeconds * 1000)
  forced.addEventListener('abort', kill)
  if (forced.aborted) kill()
  for (const started of processes) started.kill('SIGTERM')
  await Promise.all(processes.map(({ ended }) => ended))
  clearTimeout(timer)
}
