// What runs in a child process or thread. It loads little: every child pays for it.
import { once } from 'node:events'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { pino } from 'pino'
import { serializeError, toError } from '../src/redact.ts'
import type { FromChild, SentJob, Thrown, ToChild } from './child.ts'
import { describeError, JobFailed, RetryAfter } from './failure.ts'

const send = (message: FromChild): void => {
  if (parentPort) parentPort.postMessage(message)
  else process.send?.(message)
}

const watched = isMainThread ? endWithWorker() : undefined
let ending = new AbortController()

const hear = (message: ToChild): void => {
  if (message.type === 'perform') void perform(message.job)
  else if (message.type === 'abort') ending.abort(toError(message.reason))
  else process.exit(0)
}
if (parentPort) {
  parentPort.on('message', hear)
} else {
  process.on('message', hear)
  // Everybody in the group hears a terminal's Ctrl-C or a supervisor's SIGTERM; when to end is the worker's to say.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => {})
}

/**
 * The worker may be killed while a loop keeps this thread from hearing of it, so another one waits for the end of
 * standard input, which the worker holds open.
 */
async function endWithWorker(): Promise<void> {
  const watch = `
    const end = () => process.kill(process.pid, 'SIGKILL')
    new (require('node:net').Socket)({ fd: 0 }).on('error', end).on('close', end).resume()
    require('node:worker_threads').parentPort.postMessage('watching')`
  const watcher = new Worker(watch, { eval: true, execArgv: [], env: {} })
  watcher.unref()
  await once(watcher, 'message')
}

async function perform({ module, logLevel, ...job }: SentJob): Promise<void> {
  ending = new AbortController()
  const { signal } = ending
  await watched
  send({ type: 'begun' })
  const write = (line: string) => send({ type: 'log', line })
  const log = pino({ base: null, level: logLevel, serializers: { err: serializeError } }, { write })
  try {
    const { default: perform } = await import(module)
    if (typeof perform !== 'function') throw new TypeError(`${module} has no default export that performs`)
    const result = await perform({
      ...job,
      signal,
      log,
      progress: (percent: number, message?: string) => send({ type: 'progress', percent, message }),
      setResource: (path: string) => send({ type: 'resource', path }),
    })
    send({ type: 'ended', result })
  } catch (error) {
    send({ type: 'threw', thrown: describe(error) })
  }
}

function describe(error: unknown): Thrown {
  if (error instanceof JobFailed) {
    return { kind: 'JobFailed', error: describeError(error), stack: serializeError(error).stack }
  }
  if (error instanceof RetryAfter) return { kind: 'RetryAfter', seconds: error.seconds }
  if (error instanceof Error) return { kind: 'Error', error: serializeError(error) }
  return { kind: 'other', value: typeof error === 'string' ? error : undefined }
}
