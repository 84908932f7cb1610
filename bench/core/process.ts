import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'

/** A process of a contender, with its messages. */
export interface Process {
  pid: number
  /**
   * The next message that it sends.
   *
   * @param within so long it may take, in milliseconds; default a minute
   */
  hear<Message>(within?: number): Promise<Message>
  /** Hands on every message from now on, instead of keeping it until it is heard. */
  onMessage<Message>(listener: (message: Message) => void): void
  /** Rejects when it ends by itself. */
  alone: Promise<never>
  send(message: object): void
  stop(): Promise<void>
}

const root = join(import.meta.dirname, '../..')
export const appConfig = join(root, 'bench/app/accepted.config.ts')

/** So long a process may take to begin or to end, in milliseconds. */
const patience = 60_000

/** Those that have not ended. */
const running = new Set<Process>()

/** Ends what a scenario that failed has left behind. */
export async function stopProcesses(): Promise<void> {
  await Promise.all([...running].map((one) => one.stop()))
}

/** Starts a module of the bench in a process of its own. */
export function startModule(path: string, directory: string, env: NodeJS.ProcessEnv): Process {
  return wrap(fork(join(root, path), options(env)), outputOf(directory, path))
}

/**
 * Starts `accepted api` or `accepted worker` with the app of the bench and waits until it is ready.
 *
 * @returns with the origin it serves at
 */
export async function startAccepted(
  command: 'api' | 'worker',
  directory: string,
  env: NodeJS.ProcessEnv,
): Promise<Process & { url: string }> {
  const port = await freePort()
  const args = [command, '--config', appConfig]
  const variables = { ...env, [command === 'api' ? 'PORT' : 'WORKER_PORT']: String(port), LOG_LEVEL: 'warn' }
  const child = fork(join(root, 'src/cli/main.ts'), args, options(variables))
  const started = wrap(child, outputOf(directory, command))
  const url = `http://127.0.0.1:${port}`
  const deadline = performance.now() + patience
  for (;;) {
    if (child.exitCode !== null) throw new Error(`accepted ${command} ended; its output is in ${directory}`)
    if ((await fetch(`${url}/health/ready`).catch(() => undefined))?.ok) return { ...started, url }
    if (performance.now() > deadline) throw new Error(`accepted ${command} does not become ready`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const outputOf = (directory: string, name: string) => join(directory, `${name.replaceAll('/', '-')}.log`)

const options = (env: NodeJS.ProcessEnv) => ({
  // While it is the turn of others, V8 would forget what it has compiled.
  execArgv: ['--conditions=accepted-source', '--disable-warning=ExperimentalWarning', '--no-flush-bytecode'],
  // They are started again and again, and what they run does not change.
  env: { NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/accepted-bench'), ...process.env, ...env },
  stdio: ['ignore', 'pipe', 'pipe', 'ipc'] as ['ignore', 'pipe', 'pipe', 'ipc'],
})

function wrap(child: ChildProcess, output: string): Process {
  const messages: unknown[] = []
  const waiting: ((message: unknown) => void)[] = []
  let listener: ((message: unknown) => void) | undefined
  child.on('message', (message) => {
    if (listener) return listener(message)
    const next = waiting.shift()
    if (next) next(message)
    else messages.push(message)
  })
  for (const stream of [child.stdout, child.stderr]) stream?.pipe(createWriteStream(output, { flags: 'a' }))
  const ended = once(child, 'exit')
  const alone = ended.then(() => Promise.reject(new Error(`A process of the bench has ended by itself; see ${output}`)))
  // Whoever waits for something else is told by that.
  alone.catch(() => {})
  const process: Process = {
    pid: child.pid as number,
    async hear<Message>(within = patience) {
      if (messages.length > 0) return messages.shift() as Message
      const { promise, resolve, reject } = Promise.withResolvers<Message>()
      const hear = resolve as (message: unknown) => void
      waiting.push(hear)
      const timer = setTimeout(() => {
        waiting.splice(waiting.indexOf(hear), 1)
        reject(new Error(`A process of the bench has said nothing for ${within / 1000} s; see ${output}`))
      }, within)
      return Promise.race([promise, alone]).finally(() => clearTimeout(timer))
    },
    onMessage<Message>(next: (message: Message) => void) {
      listener = next as (message: unknown) => void
    },
    alone,
    send(message) {
      // To one that ends there is nothing to say; that it has is told to whoever waits for it.
      if (child.connected) child.send(message, () => {})
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), patience)
      await ended
      clearTimeout(timer)
    },
  }
  running.add(process)
  ended.then(() => running.delete(process))
  return process
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
