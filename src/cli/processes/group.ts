import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { ConfigError } from '../../config.ts'
import type { Health } from '../../health-server.ts'
import type { MetricValues } from '../../primitives/metrics-registry.ts'
import { type BackgroundTask, every } from '../../primitives/periodic.ts'
import { settledWithin } from '../../primitives/timeout.ts'
import { exitGraceSeconds } from '../../settings.ts'
import { type Child, type ChildEnd, forkChild } from './child.ts'
import { GroupMetrics } from './group-metrics.ts'

export interface GroupOptions {
  /** `API` or `Worker`, for messages. */
  name: string
  count: number
  graceSeconds: number
  log: Logger
  /** Kill a process that has answered none of so many questions in a row, one every 10 seconds. Default: no limit. */
  maxUnanswered?: number
}

/** The delay before a process is started again. It doubles with each failure, from the minimum up to the maximum. */
const minRestartDelayMs = 200
const maxRestartDelayMs = 30_000
/** A process that was ready for this long counts as healthy, so its end counts as the first failure. */
const stableMs = 60_000
/** The pause between two questions to a process, and how long each question waits for its answer. */
const aliveIntervalMs = 5_000
const metricsTimeoutMs = 2_000

/** The processes of `--processes`, seen from the primary process, which starts and stops them and does nothing else. */
export class ProcessGroup {
  readonly #options: GroupOptions
  readonly #children = new Set<Child>()
  readonly #metrics = new GroupMetrics()
  readonly #stopping = new AbortController()
  /** Whether a process failed while the group stopped. */
  #hasFailed = false
  #aliveCheck: BackgroundTask | undefined

  constructor(options: GroupOptions) {
    this.#options = options
  }

  /**
   * Starts the processes: one first, so that an error in the setup is printed once. Resolves when all are ready.
   *
   * @throws ConfigError when a process ends before it is ready
   */
  async start(): Promise<void> {
    const { count, name, log } = this.#options
    await this.#add()
    await Promise.all(Array.from({ length: count - 1 }, () => this.#add()))
    if (this.#stopping.signal.aborted) return
    log.info({ processes: Array.from(this.#children, ({ pid }) => pid) }, `${name} runs in ${count} processes`)
    if (this.#options.maxUnanswered) this.#aliveCheck = this.#checkAlive(this.#options.maxUnanswered)
  }

  /**
   * Stops all processes, and kills those that do not stop in time.
   *
   * @returns whether all of them stopped by themselves, without an error
   */
  async stop(): Promise<boolean> {
    const { name, log, graceSeconds } = this.#options
    this.#stopping.abort()
    const children = [...this.#children]
    for (const child of children) child.stop()
    const ended = Promise.all(children.map((child) => child.ended))
    // One second longer than the time after which each process exits by itself.
    const stopSeconds = graceSeconds + exitGraceSeconds + 1
    if (!(await settledWithin(ended, stopSeconds * 1000))) {
      const processes = Array.from(this.#children, ({ pid }) => pid)
      log.error({ processes }, `${name} processes did not stop within ${stopSeconds} s; killing them`)
      this.kill()
    }
    await ended
    await this.#aliveCheck?.stop()
    return !this.#hasFailed
  }

  kill(): void {
    for (const child of this.#children) child.kill()
  }

  /** Returns `ready` when a process is ready; else the state of one. */
  async health(): Promise<Health> {
    if (this.#stopping.signal.aborted) return 'draining'
    const ready = this.#readyChildren()
    if (ready.length === 0) return 'starting'
    const states = ready.map((child) => child.ask('health'))
    const isReady = async (state: Promise<unknown>) => (await state) === 'ready' || Promise.reject()
    return Promise.any(states.map(isReady)).then(
      () => 'ready',
      async () => ((await Promise.all(states)).find((state) => typeof state === 'string') as Health) ?? 'unresponsive',
    )
  }

  /** Returns the sums of the metrics of all processes in Prometheus' text format. */
  async metrics(): Promise<string> {
    const ready = this.#readyChildren()
    const values = await Promise.all(
      ready.map(async (child) => {
        const answer = await child.ask('metrics', metricsTimeoutMs)
        return [child.pid, answer as MetricValues[] | undefined] as const
      }),
    )
    return this.#metrics.text(new Map(values))
  }

  #readyChildren(): Child[] {
    return [...this.#children].filter((child) => child.isReady())
  }

  #fork(): Child {
    const child = forkChild({ 'summed metrics': () => this.metrics() })
    this.#children.add(child)
    child.ended.then(({ isClean }) => {
      this.#children.delete(child)
      this.#metrics.retire(child.pid)
      if (!isClean && child.isReady() && this.#stopping.signal.aborted) this.#hasFailed = true
    })
    return child
  }

  async #add(): Promise<void> {
    if (this.#stopping.signal.aborted) return
    const child = this.#fork()
    await child.started
    if (this.#stopping.signal.aborted) return
    if (!child.isReady()) {
      const { reason } = await child.ended
      throw new ConfigError(`A process of --processes could not start (${reason}). Its error is above.`)
    }
    void this.#keepRunning(child)
  }

  /** Starts a process again whenever it ends, until the group stops. */
  async #keepRunning(first: Child): Promise<void> {
    const { signal } = this.#stopping
    for (let child = first, failures = 0; ; child = this.#fork()) {
      const end = await child.ended
      if (signal.aborted) return
      if (end.readyMs > stableMs) failures = 0
      const delayMs = Math.min(minRestartDelayMs * 2 ** failures++, maxRestartDelayMs)
      this.#reportEnd(child, end, delayMs)
      await delay(delayMs, undefined, { signal }).catch(() => {})
      if (signal.aborted) return
      this.#metrics.countRestart()
    }
  }

  #reportEnd({ pid }: Child, { reason }: ChildEnd, delayMs: number): void {
    const { name, log } = this.#options
    log.error({ process: pid }, `${name} process ended (${reason}); a new one starts in ${delayMs / 1000} s`)
  }

  /** Kills processes whose event loop is blocked. No request for the health routes reaches such a process. */
  #checkAlive(maxUnanswered: number): BackgroundTask {
    const { name, log } = this.#options
    const unanswered = new WeakMap<Child, number>()
    const check = async (child: Child) => {
      const hasAnswered = (await child.ask('health', aliveIntervalMs)) !== undefined
      const count = hasAnswered ? 0 : (unanswered.get(child) ?? 0) + 1
      unanswered.set(child, count)
      if (count < maxUnanswered || this.#stopping.signal.aborted) return
      const seconds = (maxUnanswered * 2 * aliveIntervalMs) / 1000
      log.error({ process: child.pid }, `${name} process has not answered for ${seconds} s; killing it`)
      child.kill()
    }
    return every({
      intervalMs: aliveIntervalMs,
      run: async () => void (await Promise.all(this.#readyChildren().map(check))),
      onError: () => {},
    })
  }
}
