import { setTimeout as delay } from 'node:timers/promises'
import type { EmbeddedPostgres } from '../embedded-postgres/server.ts'
import { exitGraceSeconds, type Settings } from '../settings.ts'
import type { DevProcess } from './dev-process.ts'
import { formatAddresses, notReady, waitUntilReady } from './dev-ready.ts'
import { printStep } from './dev-step.ts'
import type { StopSignals } from './dev-stop.ts'
import { localUrl } from './local-url.ts'

type Command = readonly [name: string, ...args: string[]]

/** A process that `accepted dev` keeps running. */
export interface Server {
  command: Command
  /** The ports on which it answers `/health/ready`. */
  ports: readonly ('PORT' | 'WORKER_PORT')[]
}

/** What `accepted dev` runs. */
export interface Dev {
  settings: Settings
  postgres: EmbeddedPostgres | undefined
  stop: StopSignals
  /** Resolves to the reason when Postgres ends unexpectedly. */
  postgresEnded: Promise<string>
  servers: readonly Server[]
  start(command: Command): DevProcess
}

/** Why API and worker no longer run. If `message` is missing, the output of a process says what is wrong. */
export type DevEnd = { reason: 'stopped' | 'changed' } | { reason: 'failed'; message?: string; isPostgres?: boolean }

interface Round {
  /** Whether to run the migrations first. */
  migrates: boolean
  /** Resolves when API and worker must restart. */
  changed: Promise<unknown>
  isRestart?: boolean
  onMigrated?(): void
}

/** The pause before a process that has ended is started again. */
const restartDelayMs = 500

const usesDatabaseUrl =
  'The migrations failed. DATABASE_URL is set, so dev uses that Postgres. Unset it to let dev start one of its own.'

/** Runs the migrations, and then API and worker until they must stop. Resolves when they have stopped. */
export async function runServers(dev: Dev, { migrates, changed, isRestart, onMigrated }: Round): Promise<DevEnd> {
  const { settings, postgres, stop } = dev
  const processes = new Set<DevProcess>()
  const stopping = new AbortController()
  const start = (command: Command) => {
    const started = dev.start(command)
    processes.add(started)
    started.ended.then(() => processes.delete(started))
    return started
  }
  const interrupted = Promise.race([
    stop.promise.then(() => ({ reason: 'stopped' }) as const),
    changed.then(() => ({ reason: 'changed' }) as const),
  ])
  try {
    if (migrates) {
      printStep('migrations')
      const migrated = start(['migrate']).ended.then((result) => ({ reason: 'migrated', result }) as const)
      const end = await Promise.race([migrated, interrupted])
      if (end.reason !== 'migrated') return end
      if (end.result !== 0) return postgres ? { reason: 'failed' } : { reason: 'failed', message: usesDatabaseUrl }
      onMigrated?.()
    }
    printStep('API and worker')
    const running = dev.servers.map((server) => keepRunning(server, settings, start, stopping.signal))
    const ended = Promise.race([
      ...running.map(({ failed }) => failed),
      dev.postgresEnded.then((message) => ({ reason: 'failed', message, isPostgres: true }) as const),
      interrupted,
    ])
    const areReady = Promise.all(running.map(({ ready }) => ready)).then(() => true)
    if (await Promise.race([areReady, ended.then(() => false)])) {
      if (isRestart) printStep('ready')
      else console.log(formatAddresses(settings, postgres))
    }
    return await ended
  } finally {
    stopping.abort()
    await stopProcesses([...processes], settings, stop)
  }
}

interface RunningServer {
  /** Resolves when the process is ready for the first time. */
  ready: Promise<void>
  /** Resolves if the process does not become ready: then it is not started again. */
  failed: Promise<DevEnd>
}

/** Runs a process. If it ends unexpectedly after it was ready, starts it again, as a supervisor does in production. */
function keepRunning(
  { command, ports }: Server,
  settings: Settings,
  start: (command: Command) => DevProcess,
  stopping: AbortSignal,
): RunningServer {
  const { promise: ready, resolve: onReady } = Promise.withResolvers<void>()
  const [name] = command
  const urls = ports.map((port) => localUrl(settings, settings[port]))
  const run = async (): Promise<DevEnd> => {
    for (let isRestart = false; ; isRestart = true) {
      const { ended } = start(command)
      const isReady = await waitUntilReady(urls, ended)
      if (isReady === false) return { reason: 'failed', message: notReady(name) }
      if (isReady && isRestart) printStep(`${name} is ready again`)
      if (isReady) onReady()
      const result = await ended
      const reason = typeof result === 'number' ? `exit code ${result}` : result
      const message = `The ${name} process ended unexpectedly (${reason}). Its output is above.`
      if (!isReady) return { reason: 'failed', message }
      if (stopping.aborted) break
      console.error(`error: ${message}`)
      await delay(restartDelayMs, undefined, { signal: stopping }).catch(() => {})
      if (stopping.aborted) break
      printStep(`starting ${name} again`)
    }
    return { reason: 'stopped' }
  }
  return { ready, failed: run() }
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
  forced.addEventListener('abort', kill, { once: true })
  if (forced.aborted) kill()
  for (const started of processes) started.kill('SIGTERM')
  await Promise.all(processes.map(({ ended }) => ended))
  clearTimeout(timer)
  forced.removeEventListener('abort', kill)
}
