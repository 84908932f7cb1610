import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { type Logger, pino } from 'pino'
import { serializeError, toError } from '../src/redact.ts'
import { type Child, type FromChild, startProcess, startThread, type Thrown } from './child.ts'
import { JobFailed, RetryAfter, WorkerCrashed } from './failure.ts'
import type { Handler, IsolatedHandler, Perform, PerformingJob } from './handlers.ts'

/** The handlers of a worker, those that are isolated bound to their children. */
export interface Isolation {
  handlers: ReadonlyMap<string, Handler>
  /** Resolves when the jobs that run have ended, which are to be aborted first, and no child is left. */
  close(): Promise<void>
}

/** How long what was asked to end may take before it is killed, in milliseconds. */
const killAfter = 2_000

/** When a child cannot even be started, its job waits so long, in seconds: it is not the job's fault. */
const startAgainAfter = 5

/**
 * Gives every handler whose `perform` is a module a pool of child processes or threads. They are started when there is a
 * job for them, and kept.
 *
 * @throws TypeError when a handler's `perform`, `isolate` or `memoryLimit` cannot be used; it says which
 */
export function isolateHandlers(handlers: ReadonlyMap<string, Handler>, log: Logger): Isolation {
  const pools: Pool[] = []
  const isolate = (name: string, handler: Handler): Handler => {
    if (!isIsolated(name, handler)) return handler
    const pool = createPool(handler, log.child({ operation: name }))
    pools.push(pool)
    const { isolate = 'process', concurrency = availableParallelism() } = handler
    return { ...handler, isolate, concurrency, perform: pool.perform } as unknown as Handler
  }
  return {
    handlers: new Map(Array.from(handlers, ([name, handler]) => [name, isolate(name, handler)])),
    async close() {
      await Promise.all(pools.map((pool) => pool.close()))
    },
  }
}

function isIsolated(name: string, handler: Handler): handler is IsolatedHandler<never> {
  const { perform, isolate, memoryLimit } = handler as { [Key in keyof IsolatedHandler<never>]: unknown }
  const demand = (met: boolean, what: string) => {
    if (!met) throw new TypeError(`The handler of '${name}': ${what}`)
  }
  if (!(perform instanceof URL)) {
    demand(perform === undefined || typeof perform === 'function', 'perform must be a function or the URL of a module')
    demand(isolate === undefined, "isolate needs a module: perform: new URL('./perform.ts', import.meta.url)")
    demand(memoryLimit === undefined, 'memoryLimit is for a perform in a module of its own, by its URL')
    return false
  }
  demand(perform.protocol === 'file:' && existsSync(fileURLToPath(perform)), `there is no module ${perform.href}`)
  demand(
    isolate === undefined || isolate === 'process' || isolate === 'thread',
    `isolate must be 'process' or 'thread', not ${isolate}`,
  )
  const isUsable = memoryLimit === undefined || (Number.isInteger(memoryLimit) && (memoryLimit as number) >= 16)
  demand(isUsable, `memoryLimit must be an integer of at least 16, in MiB, not ${memoryLimit}`)
  return true
}

interface Pool {
  perform: Perform
  close(): Promise<void>
}

/** The loop claims no more jobs than there are slots, so that each finds a child that is idle or makes one. */
function createPool({ perform: module, isolate, memoryLimit }: IsolatedHandler<never>, log: Logger): Pool {
  const children = new Set<Child>()
  const idle: Child[] = []
  let isClosing = false

  const start = () => {
    const child = isolate === 'thread' ? startThread(memoryLimit) : startProcess(memoryLimit)
    children.add(child)
    void child.ended.then((how) => {
      children.delete(child)
      const index = idle.indexOf(child)
      if (index < 0) return
      idle.splice(index, 1)
      if (!isClosing) log.warn({ how }, 'A child ended between two jobs; the next job gets another')
    })
    return child
  }
  const giveBack = (child: Child) => {
    if (isClosing) end(child)
    // It may have died a moment ago.
    else if (children.has(child)) idle.push(child)
  }

  const perform: Perform = async (job) => {
    for (;;) {
      job.signal.throwIfAborted()
      const used = idle.pop()
      const child = used ?? start()
      const outcome = await run(child, module, job)
      if (outcome.kind !== 'died') giveBack(child)
      job.signal.throwIfAborted()
      if (outcome.refused) throw outcome.refused.error
      if (outcome.kind === 'ended') return outcome.result
      if (outcome.kind === 'threw') throw outcome.error
      if (outcome.hasBegun) throw new WorkerCrashed(`What performed the job ended with ${outcome.how}`)
      // It died of what somebody before has left behind, or there is no room for it.
      if (used) continue
      log.error({ how: outcome.how }, `A child could not be started; its job waits for ${startAgainAfter} s`)
      throw new RetryAfter(startAgainAfter)
    }
  }

  return {
    perform,
    async close() {
      isClosing = true
      for (const child of idle) end(child)
      await Promise.all(Array.from(children, ({ ended }) => ended))
    },
  }
}

/** How a job has ended in a child; it was `refused` when the child said of it what cannot be. */
type Outcome = { refused?: { error: unknown } | undefined } & (
  | { kind: 'ended'; result: unknown }
  | { kind: 'threw'; error: unknown }
  | { kind: 'died'; how: string; hasBegun: boolean }
)

/** Has a child perform a job. When the job is aborted, the child ends it, or is killed. */
async function run(child: Child, module: URL, job: PerformingJob): Promise<Outcome> {
  const { signal, log, progress, setResource, ...rest } = job
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  let hasBegun = false
  let refused: Outcome['refused']
  let killing: NodeJS.Timeout | undefined
  const abort = (reason: unknown) => {
    child.send({ type: 'abort', reason: serializeError(reason) })
    killing ??= setTimeout(child.kill, killAfter)
  }
  const onAbort = () => abort(signal.reason)
  const hear = (message: FromChild) => {
    if (message.type === 'begun') hasBegun = true
    else if (message.type === 'progress') progress(message.percent, message.message)
    else if (message.type === 'resource') setResource(message.path)
    else if (message.type === 'log') logAgain(log, message.line)
    else if (message.type === 'ended') resolve({ kind: 'ended', result: message.result })
    else resolve({ kind: 'threw', error: revive(message.thrown) })
  }
  child.listener = {
    hear(message) {
      try {
        hear(message)
      } catch (error) {
        // Progress that is no percentage, for example: without isolation, perform itself would throw.
        refused ??= { error }
        abort(error)
      }
    },
    end: (how) => resolve({ kind: 'died', how, hasBegun }),
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const logLevel = log.level in pino.levels.values ? log.level : 'trace'
    child.send({ type: 'perform', job: { ...rest, module: module.href, logLevel } })
    return { ...(await promise), refused }
  } finally {
    clearTimeout(killing)
    signal.removeEventListener('abort', onAbort)
    child.listener = undefined
  }
}

/** Lets it run its own exit handlers first. */
function end(child: Child): void {
  child.send({ type: 'exit' })
  const killing = setTimeout(child.kill, killAfter)
  void child.ended.then(() => clearTimeout(killing))
}

/** The log of a child's job is ours, with the time at which we hear of it. */
function logAgain(log: Logger, line: string): void {
  const { level, time: _, msg, err, ...more } = JSON.parse(line)
  const as = (pino.levels.labels[level] ?? 'info') as pino.Level
  log[as]({ ...more, ...(err && { err: toError(err) }) }, msg)
}

/** What was thrown there, as what it is. */
function revive(thrown: Thrown): unknown {
  switch (thrown.kind) {
    case 'JobFailed': {
      const { code, message, status, details } = thrown.error
      const options = { ...(status && { status }), ...(details && { details }) }
      return Object.assign(new JobFailed(code, message, options), { stack: thrown.stack })
    }
    case 'RetryAfter':
      return new RetryAfter(thrown.seconds)
    case 'Error':
      return toError(thrown.error)
    case 'other':
      return thrown.value
  }
}
