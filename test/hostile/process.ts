import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { asRole } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import type { ProbeAnswer, ProbeQuestion } from './probe.ts'

const root = join(import.meta.dirname, '../..')
const readyTimeoutMs = 60_000

/** The heap of the API in MiB. */
const maxHeapMib = 512

/** A running `accepted api` or `accepted worker`. It is never restarted. */
export interface HostedProcess {
  port: number
  logFile: string
  /** Why the process has ended by itself. Undefined as long as it runs. */
  ended(): string | undefined
  logBytes(): number
  rssBytes(): number
  ask(question: ProbeQuestion): void
  /** Collects garbage, and returns the memory in use. Only for the API. */
  measure(): Promise<ProbeAnswer>
  stop(): Promise<void>
}

export interface ProcessOptions {
  databaseUrl: string
  directory: string
  config: string
  env?: Record<string, string>
}

/** Starts a process from the sources and waits until it is ready. */
export async function startProcess(
  command: 'api' | 'worker',
  { databaseUrl, directory, config, env }: ProcessOptions,
): Promise<HostedProcess> {
  const port = await freePort()
  const logFile = join(directory, `${command}.log`)
  // A file cannot become full like a pipe whose reader is busy.
  const log = openSync(logFile, 'a')
  const nodeOptions = {
    api: `--max-old-space-size=${maxHeapMib} --import=${join(import.meta.dirname, 'probe.ts')}`,
    worker: '',
  }
  const args = ['--conditions=accepted-source', '--disable-warning=ExperimentalWarning']
  const child = spawn(process.execPath, [...args, join(root, 'src/cli/main.ts'), command, '--config', config], {
    cwd: root,
    stdio: ['ignore', log, log, 'ipc'],
    env: {
      ...process.env,
      NODE_OPTIONS: nodeOptions[command],
      DATABASE_URL: asRole(databaseUrl, command),
      [command === 'api' ? 'PORT' : 'WORKER_PORT']: String(port),
      LOG_LEVEL: 'info',
      ...env,
    },
  })
  closeSync(log)
  const state = watchExit(command, child)
  const hosted: HostedProcess = {
    port,
    logFile,
    ended: () => state.reason,
    logBytes: () => statSync(logFile).size,
    rssBytes: () => readRss(child.pid as number),
    ask: (question) => void child.send(question),
    async measure() {
      const answer = once(child, 'message')
      child.send('memory')
      return (await Promise.race([answer, state.exited.then(() => Promise.reject(new Error(state.reason)))]))[0]
    },
    async stop() {
      state.isStopping = true
      child.kill('SIGTERM')
      await state.exited
    },
  }
  const deadline = performance.now() + readyTimeoutMs
  const isReady = async () => (await fetch(`http://127.0.0.1:${port}/health/ready`).catch(() => undefined))?.ok
  while (!(await isReady())) {
    if (state.reason) throw new Error(`${state.reason}: ${readFileSync(logFile, 'utf8')}`)
    if (performance.now() > deadline) throw new Error(`The ${command} did not become ready; see ${logFile}`)
    await delay(20)
  }
  return hosted
}

function watchExit(command: string, child: ChildProcess) {
  const state = { reason: undefined as string | undefined, isStopping: false, exited: once(child, 'exit') }
  child.on('error', () => {})
  child.on('exit', (code, signal) => {
    if (!state.isStopping) state.reason = `The ${command} ended by itself: ${signal ?? `exit code ${code}`}`
  })
  return state
}

function readRss(pid: number): number {
  try {
    const [, kib] = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB/m) ?? []
    return Number(kib ?? 0) * 1024
  } catch {
    return 0
  }
}
