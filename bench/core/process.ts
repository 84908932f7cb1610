import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'

/** A child process with IPC. */
export interface Process {
  pid: number
  /** Returns the next message of the process. Rejects after `timeoutMs` (default 60 s) or when the process exits. */
  receive<Message>(timeoutMs?: number): Promise<Message>
  /** Passes every further message to `listener` instead of keeping it for {@link receive}. */
  onMessage<Message>(listener: (message: Message) => void): void
  /** Rejects when the process exits. */
  unexpectedExit: Promise<never>
  send(message: object): void
  stop(): Promise<void>
}

const root = join(import.meta.dirname, '../..')

/** The bench starts the same programs many times, so the compiled code is kept here. */
export const cacheDirectory = join(root, 'node_modules/.cache/accepted-bench')

const startTimeoutMs = 60_000
const stopTimeoutMs = 60_000
const receiveTimeoutMs = 60_000

const running = new Set<Process>()

/** Stops the processes that a failed scenario has left running. */
export async function stopProcesses(): Promise<void> {
  await Promise.all([...running].map((one) => one.stop()))
}

/** Starts a module of the bench in a new process. */
export function startModule(path: string, directory: string, env: NodeJS.ProcessEnv): Process {
  return wrap(fork(join(root, path), options(env)), outputFile(directory, path))
}

export interface AcceptedProcess {
  /** The option --processes. Default: 1. */
  processes?: number
  /** The configuration file, relative to the root. Default: that of the app of the bench. */
  config?: string
}

/** Starts `accepted api` or `accepted worker`, and waits until it is ready. */
export async function startAccepted(
  command: 'api' | 'worker',
  directory: string,
  env: NodeJS.ProcessEnv,
  { processes = 1, config = 'bench/app/accepted.config.ts' }: AcceptedProcess = {},
): Promise<Process & { url: string }> {
  const port = await freePort()
  const args = [command, '--config', join(root, config), ...(processes > 1 ? ['--processes', `${processes}`] : [])]
  // One principal sends everything. Its requests are counted as by default, but it may send more.
  const limits = { RATE_LIMIT: '1000000000', OPEN_LIMIT: '0' }
  const variables = { ...limits, ...env, [command === 'api' ? 'PORT' : 'WORKER_PORT']: String(port), LOG_LEVEL: 'warn' }
  const child = fork(join(root, 'src/cli/main.ts'), args, options(variables))
  const started = wrap(child, outputFile(directory, command))
  const url = `http://127.0.0.1:${port}`
  const deadline = performance.now() + startTimeoutMs
  for (;;) {
    if (child.exitCode !== null) throw new Error(`accepted ${command} exited; its output is in ${directory}`)
    const isReady = (await fetch(`${url}/health/ready`).catch(() => undefined))?.ok
    if (isReady && (processes === 1 || (await countReady(url)) === processes)) return { ...started, url }
    if (performance.now() > deadline)
      throw new Error(`accepted ${command} was not ready within ${startTimeoutMs / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function countReady(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text()
  return Number(/^accepted_processes_ready (\d+)$/m.exec(metrics)?.[1] ?? 0)
}

const outputFile = (directory: string, name: string) => join(directory, `${name.replaceAll('/', '-')}.log`)

const options = (env: NodeJS.ProcessEnv) => ({
  // A process is idle while other contenders are measured. By default, V8 would discard its compiled code meanwhile.
  execArgv: ['--conditions=accepted-source', '--disable-warning=ExperimentalWarning', '--no-flush-bytecode'],
  env: { NODE_COMPILE_CACHE: cacheDirectory, ...process.env, ...env },
  stdio: ['ignore', 'pipe', 'pipe', 'ipc'] as ['ignore', 'pipe', 'pipe', 'ipc'],
})

function wrap(child: ChildProcess, output: string): Process {
  const messages: unknown[] = []
  const receivers: ((message: unknown) => void)[] = []
  let listener: ((message: unknown) => void) | undefined
  child.on('message', (message) => {
    if (listener) return listener(message)
    const next = receivers.shift()
    if (next) next(message)
    else messages.push(message)
  })
  for (const stream of [child.stdout, child.stderr]) stream?.pipe(createWriteStream(output, { flags: 'a' }))
  const exited = once(child, 'exit')
  const unexpectedExit = exited.then(() => Promise.reject(new Error(`A process exited unexpectedly; see ${output}`)))
  // Prevents an unhandled rejection. `receive` still rejects with the error.
  unexpectedExit.catch(() => {})
  const wrapped: Process = {
    pid: child.pid as number,
    async receive<Message>(timeoutMs = receiveTimeoutMs) {
      if (messages.length > 0) return messages.shift() as Message
      const { promise, resolve, reject } = Promise.withResolvers<Message>()
      const receiver = resolve as (message: unknown) => void
      receivers.push(receiver)
      const timer = setTimeout(() => {
        receivers.splice(receivers.indexOf(receiver), 1)
        reject(new Error(`A process sent no message within ${timeoutMs / 1000} s; see ${output}`))
      }, timeoutMs)
      return Promise.race([promise, unexpectedExit]).finally(() => clearTimeout(timer))
    },
    onMessage<Message>(next: (message: Message) => void) {
      listener = next as (message: unknown) => void
    },
    unexpectedExit,
    send(message) {
      // The process may have exited. `receive` and `unexpectedExit` report an exit, so `send` ignores it.
      if (child.connected) child.send(message, () => {})
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
      await exited
      clearTimeout(timer)
    },
  }
  running.add(wrapped)
  exited.then(() => running.delete(wrapped))
  return wrapped
}

/** Returns a port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
