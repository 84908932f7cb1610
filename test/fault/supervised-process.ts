import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { asRole } from '../support/database.ts'
import { freePort } from '../support/program.ts'

/** An `accepted api` or `accepted worker` that is restarted on the same port whenever it exits. */
export interface SupervisedProcess {
  command: 'api' | 'worker'
  url: string
  /** Starts the process. To wait until it is ready, call `ready`. */
  start(env?: NodeJS.ProcessEnv): void
  ready(): Promise<void>
  /** Sends a signal. An exit caused by a SIGKILL from this method does not count as a crash. */
  signal(signal: NodeJS.Signals): void
  pid(): number | undefined
  /** How often the process has exited, not counting exits caused by `end` or by a SIGKILL from `signal`. */
  crashCount(): number
  /** Lets a hanging handler continue. Handlers hang if the variable HANG is set. */
  resumeHandler(): void
  /** Resolves when a handler of the current process hangs. Handlers hang if the variable HANG is set. */
  untilHandlerHangs(): Promise<void>
  /** Sends a signal and waits for the exit. The process is not restarted. Resolves to the exit code; null if killed. */
  end(signal: NodeJS.Signals): Promise<number | null>
}

export interface ProcessOptions {
  /** The directory of the sources. */
  root: string
  databaseUrl: () => string
  /** The directory for the output of processes and the record of executions. */
  directory: string
  env?: NodeJS.ProcessEnv
  nodeArgs?: readonly string[]
  args?: readonly string[]
}

/** This timeout is long, because many processes start at once on a busy machine. */
const readyTimeoutMs = 120_000
const probeTimeoutMs = 2_000

/** Creates a process without starting it. */
export async function createProcess(command: 'api' | 'worker', options: ProcessOptions): Promise<SupervisedProcess> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const output = join(options.directory, `${command}-${port}.log`)
  let child: ChildProcess | undefined
  let closed: Promise<unknown> = Promise.resolve()
  let handlerHangs = Promise.withResolvers<void>()
  let isEnding = false
  let isKilled = false
  let crashes = 0
  const isRunning = () => child !== undefined && child.exitCode === null && child.signalCode === null

  const supervised: SupervisedProcess = {
    command,
    url,
    pid: () => child?.pid,
    crashCount: () => crashes,
    start(env) {
      isEnding = false
      const started = spawnProgram(command, port, options, env)
      child = started
      closed = once(started, 'close').then(() => {
        if (isEnding) return
        if (started.signalCode !== 'SIGKILL' || !isKilled) crashes += 1
        isKilled = false
        supervised.start(env)
      })
      handlerHangs = Promise.withResolvers()
      const { resolve } = handlerHangs
      started.on('message', () => resolve())
      // Sending a message to a process that has exited emits an error.
      started.on('error', () => {})
      for (const stream of [started.stdout, started.stderr]) {
        createInterface(stream as NodeJS.ReadableStream).on('line', (line) => appendFileSync(output, `${line}\n`))
      }
    },
    async ready() {
      const deadline = performance.now() + readyTimeoutMs
      for (;;) {
        const response = fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(probeTimeoutMs) })
        const isReady = (await response.catch(() => undefined))?.ok
        if (isReady && isRunning()) return
        if (performance.now() > deadline) throw new Error(`The ${command} did not become ready; see ${output}`)
        await delay(20)
      }
    },
    signal(signal) {
      if (signal === 'SIGKILL') isKilled = true
      child?.kill(signal)
    },
    resumeHandler: () => void child?.send('resume'),
    untilHandlerHangs: () => handlerHangs.promise,
    async end(signal) {
      isEnding = true
      if (isRunning()) child?.kill(signal)
      await closed
      return child?.exitCode ?? null
    },
  }
  return supervised
}

function spawnProgram(
  command: 'api' | 'worker',
  port: number,
  { root, databaseUrl, directory, env, nodeArgs = [], args = [] }: ProcessOptions,
  startEnv: NodeJS.ProcessEnv | undefined,
): ChildProcess {
  const main = join(root, 'src/cli/main.ts')
  const config = join(root, 'test/fault/app/accepted.config.ts')
  const flags = ['--conditions=accepted-source', '--disable-warning=ExperimentalWarning', ...nodeArgs]
  return spawn(process.execPath, [...flags, main, command, '--config', config, ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...process.env,
      DATABASE_URL: asRole(databaseUrl(), command),
      [command === 'api' ? 'PORT' : 'WORKER_PORT']: String(port),
      LOG_LEVEL: 'warn',
      EXECUTIONS: join(directory, 'executions'),
      // Saves compile time: the matrix starts hundreds of processes.
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(directory, '../compiled'),
      ...env,
      ...startEnv,
    },
  })
}
