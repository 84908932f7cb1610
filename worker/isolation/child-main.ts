// The program of a child process or thread. Every child loads it, so it imports little.
import { once } from 'node:events'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { pino } from 'pino'
import { serializeError, toError } from '../../src/primitives/redact.ts'
import { readable } from '../../src/primitives/thrown.ts'
import { loadTracing } from '../../src/primitives/tracing.ts'
import type { Dependency } from '../running-job.ts'
import type { FromChild, SentJob, ToChild } from './child.ts'
import { serializeThrown } from './thrown.ts'

const send = (message: FromChild): void => {
  if (parentPort) parentPort.postMessage(message)
  else process.send?.(message)
}

const parentWatch = isMainThread ? watchParent() : undefined
let abortController = new AbortController()
/** The calls of `dependencies` that wait for an answer of the worker. */
const calls = new Map<number, PromiseWithResolvers<readonly Dependency[]>>()
let lastCall = 0

const receive = (message: ToChild): void => {
  if (message.type === 'perform') void perform(message.job)
  else if (message.type === 'dependencies') answer(message)
  else if (message.type === 'abort') abortController.abort(toError(message.reason))
  else process.exit(0)
}
if (parentPort) {
  parentPort.on('message', receive)
} else {
  process.on('message', receive)
  // Ignores these signals. A terminal's Ctrl-C or a supervisor's SIGTERM reaches the whole process group, but the
  // worker decides when a child exits.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => {})
}

/**
 * Kills this process when the worker is gone. The worker holds the standard input of this process open, so the input
 * ends when the worker is gone. A separate thread waits for this end, because a handler may block the main thread.
 */
async function watchParent(): Promise<void> {
  const source = `
    const end = () => process.kill(process.pid, 'SIGKILL')
    new (require('node:net').Socket)({ fd: 0 }).on('error', end).on('close', end).resume()
    require('node:worker_threads').parentPort.postMessage('watching')`
  const thread = new Worker(source, { eval: true, execArgv: [], env: {} })
  thread.unref()
  await once(thread, 'message')
}

function askForDependencies(operation?: { name: string }): Promise<readonly Dependency[]> {
  const call = ++lastCall
  const answered = Promise.withResolvers<readonly Dependency[]>()
  calls.set(call, answered)
  send({ type: 'dependencies', call, operation: operation?.name })
  return answered.promise
}

function answer(message: ToChild & { type: 'dependencies' }): void {
  const call = calls.get(message.call)
  calls.delete(message.call)
  if ('error' in message) call?.reject(toError(message.error))
  else call?.resolve(message.dependencies)
}

async function perform({ module, logLevel, ...job }: SentJob): Promise<void> {
  abortController = new AbortController()
  const { signal } = abortController
  await parentWatch
  send({ type: 'started' })
  const write = (line: string) => send({ type: 'log', line })
  const log = pino({ base: null, level: logLevel, serializers: { err: serializeError } }, { write })
  try {
    const { default: perform } = await import(module)
    if (typeof perform !== 'function') throw new TypeError(`${module} must export a perform function as its default`)
    const sent = {
      ...job,
      signal,
      log,
      progress: (percent: number, message?: string) => send({ type: 'progress', percent, message }),
      setResource: (path: string) => send({ type: 'resource', path }),
      dependencies: askForDependencies,
    }
    const tracing = job.traceparent ? await loadTracing() : undefined
    const result = await (tracing ? tracing.continue(job, () => perform(sent)) : perform(sent))
    send({ type: 'returned', result })
  } catch (error) {
    send({ type: 'threw', thrown: serializeThrown(readable(error)) })
  }
}
