import type { EmbeddedPostgres } from '../embedded-postgres/server.ts'
import { exitGraceSeconds, type Settings } from '../settings.ts'
import type { DevProcess } from './dev-process.ts'
import { formatAddresses, notReady, waitUntilReady } from './dev-ready.ts'
import { printStep } from './dev-step.ts'
import type { StopSignals } from './dev-stop.ts'

type Command = readonly [name: string, ...args: string[]]

/** What `accepted dev` runs. */
export interface Dev {
  settings: Settings
  postgres: EmbeddedPostgres | undefined
  stop: StopSignals
  /** Resolves to the reason when Postgres ends unexpectedly. */
  postgresEnded: Promise<string>
  servers: readonly Command[]
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

/** Runs the migrations, and then API and worker until they must stop. Resolves when they have stopped. */
export async function runServers(dev: Dev, { migrates, changed, isRestart, onMigrated }: Round): Promise<DevEnd> {
  const { settings, postgres, stop } = dev
  const processes: DevProcess[] = []
  const start = (command: Command) => {
    const started = dev.start(command)
    processes.push(started)
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
      if (end.result !== 0) return { reason: 'failed' }
      processes.pop()
      onMigrated?.()
    }
    printStep('API and worker')
    const ended = Promise.race([
      ...dev.servers.map(start).map(waitForProcessEnd),
      dev.postgresEnded.then((message) => ({ reason: 'failed', message, isPostgres: true }) as const),
      interrupted,
    ])
    const isReady = await waitUntilReady(settings, ended)
    if (isReady === false) return { reason: 'failed', message: notReady }
    if (isReady && isRestart) printStep('ready')
    else if (isReady) console.log(formatAddresses(settings, postgres))
    return await ended
  } finally {
    await stopProcesses(processes, settings, stop)
  }
}

async function waitForProcessEnd({ name, ended }: DevProcess): Promise<DevEnd> {
  const result = await ended
  const reason = typeof result === 'number' ? `exit code ${result}` : result
  const message = `The ${name} process ended unexpectedly (${reason}). Its output is above.`
  return { reason: 'failed', message }
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
