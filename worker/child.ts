import { fork } from 'node:child_process'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { JobErrorColumn } from '../src/db/tables.ts'
import type { SerializedError } from '../src/redact.ts'
import type { PerformingJob } from './handlers.ts'

/** What a child is told. */
export type ToChild = { type: 'perform'; job: SentJob } | { type: 'abort'; reason: SerializedError } | { type: 'exit' }

/** The part of a job that can be sent. */
export interface SentJob extends Omit<PerformingJob, 'signal' | 'log' | 'progress' | 'setResource'> {
  /** The address of the module that performs. */
  module: string
  logLevel: string
}

/** What a child says of its job. */
export type FromChild =
  | { type: 'begun' }
  | { type: 'progress'; percent: number; message: string | undefined }
  | { type: 'resource'; path: string }
  | { type: 'log'; line: string }
  | { type: 'ended'; result: unknown }
  | { type: 'threw'; thrown: Thrown }

/** An error on its way to the worker. */
export type Thrown =
  | { kind: 'JobFailed'; error: JobErrorColumn; stack: string }
  | { kind: 'RetryAfter'; seconds: number }
  | { kind: 'Error'; error: SerializedError }
  | { kind: 'other'; value: string | undefined }

/** A process or thread of ours, with at most one job at a time. */
export interface Child {
  /** Whoever has given it a job. */
  listener: Listener | undefined
  send(message: ToChild): void
  kill(): void
  /** Resolves with how it ended, after everything that it said has been heard. */
  ended: Promise<string>
}

export interface Listener {
  hear(message: FromChild): void
  end(how: string): void
}

// Beside this file, in the sources as in what is built.
const entry = new URL(`./isolated${extname(import.meta.url)}`, import.meta.url)

/** @param memoryLimit of its heap, in MiB */
export function startProcess(memoryLimit?: number): Child {
  const process = fork(entry, {
    // Structured clone, as between threads.
    serialization: 'advanced',
    // By the end of its standard input it learns of ours.
    stdio: ['pipe', 'inherit', 'inherit', 'ipc'],
    execArgv: [...inherited(), ...(memoryLimit ? [`--max-old-space-size=${memoryLimit}`] : [])],
  })
  const child: Child = {
    listener: undefined,
    send: (message) => void process.send(message),
    kill: () => void process.kill('SIGKILL'),
    ended: new Promise((resolve) => {
      const exited = new Promise<string>((exit) => {
        process.once('exit', (code, signal) => exit(signal ?? `exit code ${code}`))
      })
      // The last messages may come after the exit, and before this. One that only disconnects can say nothing any more.
      process.once('disconnect', () => {
        process.kill('SIGKILL')
        resolve(exited)
      })
      process.on('error', (error) => {
        // Else the process is there, and its end is told.
        if (process.pid === undefined) resolve(error.message)
      })
    }),
  }
  process.on('message', (message) => child.listener?.hear(message as FromChild))
  return listening(child)
}

/** @param memoryLimit of its heap, in MiB */
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
  thread.on('message', (message) => child.listener?.hear(message))
  return listening(child)
}

function listening(child: Child): Child {
  void child.ended.then((how) => child.listener?.end(how))
  return child
}

// Two processes cannot be debugged at one address.
const inherited = () => process.execArgv.filter((argument) => !argument.startsWith('--inspect'))
