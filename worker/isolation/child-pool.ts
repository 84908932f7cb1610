import { availableParallelism } from 'node:os'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { type Logger, pino } from 'pino'
import { findModule } from '../../src/find-module.ts'
import type { Operation } from '../../src/operation.ts'
import { serializeError, toError } from '../../src/primitives/redact.ts'
import { RetryAfter, WorkerCrashed } from '../errors.ts'
import type { Handler, IsolatedHandler, Perform } from '../handlers.ts'
import type { PerformingJob } from '../running-job.ts'
import { type Child, type FromChild, startProcess, startThread } from './child.ts'
import { deserializeThrown } from './thrown.ts'

/** The handlers of a worker. Each isolated handler performs its jobs in its own pool of children. */
export interface Isolation {
  handlers: ReadonlyMap<string, Handler>
  /** Ends the children. Abort their jobs before you call it. Resolves when the jobs and all children have ended. */
  close(): Promise<void>
}

/** How long a child may take to end an aborted job or to exit. After that, it is killed. */
const killTimeoutMs = 2_000
/** How long a job waits when no child can be started for it. The attempt does not count. */
const startRetrySeconds = 5
const minMemoryLimitMiB = 16

/**
 * Gives every handler whose `perform` is a module URL a pool of child processes or threads. Children start on demand
 * and are reused.
 *
 * @throws TypeError that names the handler and its invalid option
 */
export function isolateHandlers(handlers: ReadonlyMap<string, Handler>, log: Logger): Isolation {
  const pools: Pool[] = []
  const isolate = (name: string, handler: Handler): Handler => {
    if (!isIsolated(name, handler)) return handler
    const pool = createPool(handler, moduleOf(name, handler), log.child({ operation: name }))
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
  const ensure = (isValid: boolean, message: string) => {
    if (!isValid) throw new TypeError(`Handler of '${name}': ${message}`)
  }
  if (!(perform instanceof URL)) {
    const module = "a module: perform: new URL('./perform.ts', import.meta.url)"
    ensure(perform === undefined || typeof perform === 'function', 'perform must be a function or the URL of a module')
    ensure(isolate === undefined, `isolate requires ${module}`)
    ensure(memoryLimit === undefined, `memoryLimit requires ${module}`)
    return false
  }
  ensure(
    isolate === undefined || isolate === 'process' || isolate === 'thread',
    `isolate must be 'process' or 'thread', not ${isolate}`,
  )
  ensure(
    memoryLimit === undefined || (Number.isInteger(memoryLimit) && (memoryLimit as number) >= minMemoryLimitMiB),
    `memoryLimit must be an integer of at least ${minMemoryLimitMiB}, in MiB, not ${memoryLimit}`,
  )
  return true
}

/** When the app is compiled, `perform.ts` is `perform.js`. */
function moduleOf(name: string, { perform }: IsolatedHandler<never>): URL {
  const file = perform.protocol === 'file:' ? findModule(fileURLToPath(perform)) : undefined
  if (!file) throw new TypeError(`Handler of '${name}': there is no module ${perform.href}`)
  return pathToFileURL(file)
}

interface Pool {
  perform: Perform
  close(): Promise<void>
}

/** The claim loop claims at most `concurrency` jobs, so the pool needs no limit of its own. */
function createPool({ isolate, memoryLimit }: IsolatedHandler<never>, module: URL, log: Logger): Pool {
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
      if (!isClosing) log.warn({ how }, 'An idle child ended; the next job starts another child')
    })
    return child
  }
  const returnToPool = (child: Child) => {
    if (isClosing) exit(child)
    // The child may have ended after its job ended.
    else if (children.has(child)) idle.push(child)
  }

  const perform: Perform = async (job) => {
    for (;;) {
      job.signal.throwIfAborted()
      const reused = idle.pop()
      const child = reused ?? start()
      const outcome = await runInChild(child, module, job)
      if (outcome.kind !== 'died') returnToPool(child)
      job.signal.throwIfAborted()
      if (outcome.invalidReport) throw outcome.invalidReport.error
      if (outcome.kind === 'returned') return outcome.result
      if (outcome.kind === 'threw') throw outcome.error
      if (outcome.hasStarted) throw new WorkerCrashed(`The child that performed the job ended: ${outcome.how}`)
      // An earlier job may have left the reused child broken, so the job is tried again in another child.
      if (reused) continue
      log.error({ job: job.id, how: outcome.how }, `No child could be started; the job waits ${startRetrySeconds} s`)
      throw new RetryAfter(startRetrySeconds)
    }
  }

  return {
    perform,
    async close() {
      isClosing = true
      for (const child of idle) exit(child)
      await Promise.all(Array.from(children, ({ ended }) => ended))
    },
  }
}

/**
 * How a job ended in a child. `invalidReport` is set when the job made an invalid call, for example `progress(101)`.
 * Without isolation, such a call throws in `perform`.
 */
type ChildOutcome = { invalidReport?: { error: unknown } | undefined } & (
  | { kind: 'returned'; result: unknown }
  | { kind: 'threw'; error: unknown }
  | { kind: 'died'; how: string; hasStarted: boolean }
)

/**
 * Performs a job in a child. When the job is aborted, the child has 2 seconds to end the job. After that, the child is
 * killed.
 */
async function runInChild(child: Child, module: URL, job: PerformingJob): Promise<ChildOutcome> {
  const { signal, log, progress, setResource, dependencies, ...rest } = job
  const { promise, resolve } = Promise.withResolvers<ChildOutcome>()
  let hasStarted = false
  let invalidReport: ChildOutcome['invalidReport']
  let killTimer: NodeJS.Timeout | undefined
  const abort = (reason: unknown) => {
    child.send({ type: 'abort', reason: serializeError(reason) })
    killTimer ??= setTimeout(child.kill, killTimeoutMs)
  }
  const answer = async ({ call, operation }: FromChild & { type: 'dependencies' }) => {
    const read = dependencies(operation === undefined ? undefined : ({ name: operation } as Operation))
    const answered = await read.then(
      (found) => ({ dependencies: found }),
      (error: unknown) => ({ error: serializeError(error) }),
    )
    child.send({ type: 'dependencies', call, ...answered })
  }
  const onAbort = () => abort(signal.reason)
  const handle = (message: FromChild) => {
    if (message.type === 'started') hasStarted = true
    else if (message.type === 'progress') progress(message.percent, message.message)
    else if (message.type === 'resource') setResource(message.path)
    else if (message.type === 'dependencies') void answer(message)
    else if (message.type === 'log') forwardLog(log, message.line)
    else if (message.type === 'returned') resolve({ kind: 'returned', result: message.result })
    else resolve({ kind: 'threw', error: deserializeThrown(message.thrown) })
  }
  child.listener = {
    onMessage(message) {
      try {
        handle(message)
      } catch (error) {
        invalidReport ??= { error }
        abort(error)
      }
    },
    onEnd: (how) => resolve({ kind: 'died', how, hasStarted }),
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const logLevel = log.level in pino.levels.values ? log.level : 'trace'
    child.send({ type: 'perform', job: { ...rest, module: module.href, logLevel } })
    return { ...(await promise), invalidReport }
  } finally {
    clearTimeout(killTimer)
    signal.removeEventListener('abort', onAbort)
    child.listener = undefined
  }
}

/** Asks an idle child to exit, so that its exit handlers run. Kills the child if it has not exited after 2 seconds. */
function exit(child: Child): void {
  child.send({ type: 'exit' })
  const killTimer = setTimeout(child.kill, killTimeoutMs)
  void child.ended.then(() => clearTimeout(killTimer))
}

/** Writes a log line of a child to the worker's log. The time in the log is when the line arrived. */
function forwardLog(log: Logger, line: string): void {
  const { level, time: _, msg, err, ...more } = JSON.parse(line)
  const as = (pino.levels.labels[level] ?? 'info') as pino.Level
  log[as]({ ...more, ...(err && { err: toError(err) }) }, msg)
}
