import cluster from 'node:cluster'
import { type Answers, type Ask, connectPort, type Port } from './messages.ts'
import { closeUntaken } from './untaken-connections.ts'

/** How a child process ended. */
export interface ChildEnd {
  /** The exit code, the signal, or the error of a process that could not be created. */
  reason: string
  isClean: boolean
  /** For how long the process was ready, in milliseconds. */
  readyMs: number
}

/** A child process of `--processes`, seen from the primary process. */
export interface Child {
  pid: number
  ask: Ask
  isReady(): boolean
  /** Resolves when the process is ready, or when it has ended. */
  started: Promise<unknown>
  ended: Promise<ChildEnd>
  stop(): void
  kill(): void
}

/** Starts this command again in a child process. */
export function forkChild(answers: Answers): Child {
  // The structured clone algorithm keeps NaN and Infinity, which metrics may contain.
  cluster.setupPrimary({
    exec: process.argv[1] as string,
    args: process.argv.slice(2),
    serialization: 'advanced',
  })
  const worker = cluster.fork()
  closeUntaken(worker)
  const { promise: ready, resolve: onReady } = Promise.withResolvers<void>()
  let readyAt: number | undefined
  const ask = connectPort(worker.process as Port, {
    ...answers,
    ready() {
      readyAt = performance.now()
      onReady()
    },
  })
  const ended = new Promise<ChildEnd>((resolve) => {
    const readyMs = () => (readyAt === undefined ? 0 : performance.now() - readyAt)
    worker.once('error', ({ message }) => resolve({ reason: message, isClean: false, readyMs: 0 }))
    worker.once('exit', (code, signal) =>
      resolve({ reason: signal ?? `exit code ${code}`, isClean: code === 0, readyMs: readyMs() }),
    )
  })
  return {
    pid: worker.process.pid ?? 0,
    ask,
    isReady: () => readyAt !== undefined,
    started: Promise.race([ready, ended]),
    ended,
    stop() {
      // Ctrl-C in a terminal also signals the child process. A second signal would end its requests and jobs at once.
      if (readyAt === undefined) worker.process.kill('SIGTERM')
      else void ask('stop')
    },
    kill: () => void worker.process.kill('SIGKILL'),
  }
}
