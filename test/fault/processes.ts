import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../support/program.ts'

/** One place of a process of the product: what dies there is started again at once, on the same port. */
export interface Place {
  command: 'api' | 'worker'
  url: string
  /** Starts a process; `ready` waits for it. */
  start(env?: NodeJS.ProcessEnv): void
  ready(): Promise<void>
  /** A SIGKILL by us is no death of its own. */
  signal(signal: NodeJS.Signals): void
  pid(): number | undefined
  /** How often a process died by itself. */
  deaths(): number
  /** Lets a handler that hangs go on. */
  goOn(): void
  /** Resolves when a handler of the process that runs now says that it hangs. */
  hanging(): Promise<void>
  /** Sends a signal and waits for the end; answers the exit code, null after a signal. */
  end(signal: NodeJS.Signals): Promise<number | null>
}

export interface PlaceOptions {
  /** Where the sources are. */
  root: string
  databaseUrl: () => string
  /** Where handlers record what they execute, and processes what they print. */
  directory: string
  env?: NodeJS.ProcessEnv
  nodeArgs?: readonly string[]
  args?: readonly string[]
}

/** Many start at once, and on a busy machine. In milliseconds. */
const readyWithin = 120_000

/** Reserves a place. */
export async function openPlace(command: 'api' | 'worker', options: PlaceOptions): Promise<Place> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const output = join(options.directory, `${command}-${port}.log`)
  let child: ChildProcess | undefined
  let closed: Promise<unknown> = Promise.resolve()
  let saysHanging = Promise.withResolvers<void>()
  let isEnding = false
  let isKilled = false
  let deaths = 0
  const isRunning = () => child !== undefined && child.exitCode === null && child.signalCode === null

  const place: Place = {
    command,
    url,
    pid: () => child?.pid,
    deaths: () => deaths,
    start(env) {
      isEnding = false
      const main = join(options.root, 'src/cli/main.ts')
      const config = join(options.root, 'test/fault/app/accepted.config.ts')
      const args = [
        '--conditions=accepted-source',
        '--disable-warning=ExperimentalWarning',
        ...(options.nodeArgs ?? []),
      ]
      const started = spawn(process.execPath, [...args, main, command, '--config', config, ...(options.args ?? [])], {
        cwd: options.root,
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
        env: {
          ...process.env,
          DATABASE_URL: options.databaseUrl(),
          [command === 'api' ? 'PORT' : 'WORKER_PORT']: String(port),
          LOG_LEVEL: 'warn',
          EXECUTIONS: join(options.directory, 'executions'),
          // Hundreds are started.
          NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(options.directory, '../compiled'),
          ...options.env,
          ...env,
        },
      })
      child = started
      closed = once(started, 'close').then(() => {
        if (isEnding) return
        if (started.signalCode !== 'SIGKILL' || !isKilled) deaths += 1
        isKilled = false
        place.start(env)
      })
      saysHanging = Promise.withResolvers()
      const hanging = saysHanging
      started.on('message', () => hanging.resolve())
      // Whoever is sent something may have died already.
      started.on('error', () => {})
      for (const stream of [started.stdout, started.stderr]) {
        createInterface(stream as NodeJS.ReadableStream).on('line', (line) => appendFileSync(output, `${line}\n`))
      }
    },
    async ready() {
      const deadline = performance.now() + readyWithin
      for (;;) {
        const answer = fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(2_000) })
        if (isRunning() && (await answer.catch(() => undefined))?.ok) return
        await answer.catch(() => {})
        if (performance.now() > deadline) throw new Error(`The ${command} does not become ready; see ${output}`)
        await delay(20)
      }
    },
    signal(signal) {
      if (signal === 'SIGKILL') isKilled = true
      child?.kill(signal)
    },
    goOn: () => void child?.send('go on'),
    hanging: () => saysHanging.promise,
    async end(signal) {
      isEnding = true
      if (isRunning()) child?.kill(signal)
      await closed
      return child?.exitCode ?? null
    },
  }
  return place
}
