import { fork } from 'node:child_process'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { SerializedError } from '../../src/primitives/redact.ts'
import type { Dependency, PerformingJob } from '../running-job.ts'
import type { Thrown } from './thrown.ts'

/** A message from the worker to a child. */
export type ToChild =
  | { type: 'perform'; job: SentJob }
  | { type: 'dependencies'; call: number; dependencies: readonly Dependency[] }
  | { type: 'dependencies'; call: number; error: SerializedError }
  | { type: 'abort'; reason: SerializedError }
  | { type: 'exit' }

/** The serializable part of a job. */
export interface SentJob extends Omit<PerformingJob, 'signal' | 'log' | 'progress' | 'setResource' | 'dependencies'> {
  /** The URL of the module whose default export performs the job. */
  module: string
  logLevel: string
}

/** A message from a child about its job. */
export type FromChild =
  | { type: 'started' }
  | { type: 'progress'; percent: number; message: string | undefined }
  | { type: 'resource'; path: string }
  | { type: 'dependencies'; call: number; operation: string | undefined }
  | { type: 'log'; line: string }
  | { type: 'returned'; result: unknown }
  | { type: 'threw'; thrown: Thrown }

/** A child process or thread. It performs at most one job at a time. */
export interface Child {
  /** Receives the messages about the current job. */
  listener: ChildListener | undefined
  send(message: ToChild): void
  kill(): void
  /**
   * Resolves after the last message of the child was received. The value says how the child ended, for example
   * `SIGKILL` or `exit code 1`.
   */
  ended: Promise<string>
}

export interface ChildListener {
  onMessage(message: FromChild): void
  /** @param how how the child ended; see {@link Child.ended} */
  onEnd(how: string): void
}

// The extension of this file differs between the sources and the build.
const entry = new URL(`./child-main${extname(import.meta.url)}`, import.meta.url)

/** @param memoryLimit heap limit in MiB */
export function startProcess(memoryLimit?: number): Child {
  const process = fork(entry, {
    // Messages are copied by structured clone, as between threads.
    serialization: 'advanced',
    // When this process is gone, the child's standard input ends, and then the child exits.
    stdio: ['pipe', 'inherit', 'inherit', 'ipc'],
    execArgv: [...inheritedArguments(), ...(memoryLimit ? [`--max-old-space-size=${memoryLimit}`] : [])],
  })
  const child: Child = {
    listener: undefined,
    send: (message) => void process.send(message),
    kill: () => void process.kill('SIGKILL'),
    ended: new Promise((resolve) => {
      const exited = new Promise<string>((exit) => {
        process.once('exit', (code, signal) => exit(signal ?? `exit code ${code}`))
      })
      // The last messages may arrive after `exit`, but before `disconnect`. A child that is disconnected but still runs
      // is useless, so it is killed.
      process.once('disconnect', () => {
        process.kill('SIGKILL')
        resolve(exited)
      })
      process.on('error', (error) => {
        // If there is a pid, the process has started and `exit` will follow.
        if (process.pid === undefined) resolve(error.message)
      })
    }),
  }
  process.on('message', (message) => child.listener?.onMessage(message as FromChild))
  return reportEnd(child)
}

/** @param memoryLimit heap limit in MiB */
export function startThread(memoryLimit?: number): Child {
  const thread = new Worker(entry, memoryLimit ? { resourceLimits: { maxOldGenerationSizeMb: memoryLimit } } : {})
  let cause: Error | undefined
  const child: Child = {
    listener: undefined,
    send: (message) => thread.postMessage(message),
    kill: () => void thread.terminate(),
    ended: new Promise((resolve) => {
      thread.on('error', (error) => {
        cause = error as Error
      })
      thread.once('exit', (code) => resolve(cause ? cause.message : `exit code ${code}`))
    }),
  }
  thread.on('message', (message) => child.listener?.onMessage(message))
  return reportEnd(child)
}

function reportEnd(child: Child): Child {
  void child.ended.then((how) => child.listener?.onEnd(how))
  return child
}

// Leaves out `--inspect`, because two processes cannot open a debugger on the same address.
const inheritedArguments = () => process.execArgv.filter((argument) => !argument.startsWith('--inspect'))
