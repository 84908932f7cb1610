import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'
import { type Listener, listen } from '../src/db/listener.ts'
import { channels, createNotifier, type Notifier, unpack } from '../src/db/notifier.ts'
import { isOutage } from '../src/db/sqlstate.ts'
import type { Operation } from '../src/operation.ts'
import { type BackgroundTask, every, type SingleFlight, singleFlight } from '../src/primitives/periodic.ts'
import { settledWithin } from '../src/primitives/timeout.ts'
import type { PgBoss } from '../src/queue/boss.ts'
import { Claims } from '../src/queue/claims.ts'
import { heartbeatIntervalMs, sendHeartbeats } from '../src/queue/heartbeat.ts'
import { createCancellations } from './execution/cancellation.ts'
import { ClaimLoop } from './execution/claim-loop.ts'
import type { OperationWorker } from './execution/operation-worker.ts'
import { createProgressWriter, type ProgressWriter } from './execution/progress.ts'
import { releaseClaims } from './execution/release.ts'
import { createRunTimes } from './execution/run-times.ts'
import type { Handler } from './handlers.ts'
import type { Health } from './health.ts'
import type { Isolation } from './isolation/pool.ts'
import { createConnectionHealth } from './maintenance/connection-health.ts'
import { maintainPartitions } from './maintenance/partitions.ts'
import { pollDueWork } from './maintenance/poll.ts'
import { createQuarantine, pruneQuarantine } from './maintenance/quarantine.ts'
import { createReconciler } from './maintenance/reconciler.ts'
import { rescueOrphaned } from './maintenance/rescuer.ts'
import { createScheduler, type SchedulerContext, writeSchedules } from './maintenance/scheduler.ts'
import { createMetrics, type Metrics } from './metrics.ts'

export interface RuntimeParts {
  operations: readonly Operation[]
  /** By the name of the operation. */
  handlers: ReadonlyMap<string, Handler>
  scheduling: SchedulerContext
  isolation: Isolation
  database: Database
  /** For heartbeats and polls, which must not wait for handlers. */
  controlDatabase: Database
  boss: PgBoss
  log: Logger
  graceSeconds: number
  close(): Promise<void>
}

/** The poll finds work whose notification was lost. */
const pollIntervalMs = 1_000
/**
 * Polls take at most this share of the time: while a transaction holds an old snapshot, a poll reads every row that was
 * claimed since.
 */
const maxPollShare = 0.1
const cancellationPollIntervalMs = 2_000
const runTimesIntervalMs = 1_000
const schedulesIntervalMs = 60_000
const partitionsIntervalMs = 60 * 60 * 1_000
const pruneIntervalMs = 10 * 60 * 1_000
/** The worker is unhealthy when a poll has waited this long for its answer. */
const pollTimeoutMs = 5_000
/** After the grace period: how long releasing the jobs, and then closing, may take. */
const releaseTimeoutMs = 2_000
const closeTimeoutMs = 2_000

/** A running worker: one claim loop for each operation, a listener, and the periodic tasks. */
export class WorkerRuntime {
  readonly #parts: RuntimeParts
  readonly #draining = new AbortController()
  readonly #stopping = new AbortController()
  readonly #notifier: Notifier
  readonly #progress: ProgressWriter
  readonly #metrics: Metrics
  readonly #workers: { worker: OperationWorker; loop: ClaimLoop }[]
  readonly #listener: Listener
  readonly #connection = createConnectionHealth()
  readonly #quarantine: SingleFlight<void>
  readonly #rescuer: SingleFlight<void>
  readonly #reconciler: SingleFlight<Date>
  readonly #scheduler: SingleFlight<void>
  readonly #tasks: BackgroundTask[]
  /** When the poll that is still unanswered started, by `performance.now()`. */
  #unansweredSince: number | undefined = performance.now()
  #stopped: Promise<void> | undefined

  constructor(parts: RuntimeParts) {
    const { database, controlDatabase, boss, scheduling, log } = parts
    this.#parts = parts
    this.#notifier = createNotifier(database)
    this.#progress = createProgressWriter(database, this.#notifier, log)
    const cancellations = createCancellations(database)
    const runTimes = createRunTimes(database)
    this.#metrics = createMetrics(database, {
      operations: parts.operations.map(({ name }) => name),
      running: (name) => this.#workers.find(({ worker }) => worker.operation.name === name)?.loop.active().length ?? 0,
      isListening: () => this.#listener.isListening(),
    })
    const context = { progress: this.#progress, cancellations, runTimes, stopping: this.#stopping.signal }
    this.#workers = parts.operations.map((operation) => {
      const worker = this.#operationWorker(operation)
      return { worker, loop: new ClaimLoop(worker, context) }
    })
    this.#listener = listen(database, {
      channels: {
        [channels.work]: (payload) => this.#wake(unpack(payload)),
        [channels.cancel]: (payload) => cancellations.request(unpack(payload)),
      },
      onListening: () => this.#wake(parts.operations.map(({ name }) => name)),
      onError: (err) => log.warn({ err }, 'Notifications are not received; polling until the connection is back'),
    })
    const { signal: draining } = this.#draining
    const workers = this.#workers.map(({ worker }) => worker)
    const quarantine = createQuarantine({ database, workers: this.#workers, draining, log })
    this.#quarantine = singleFlight(quarantine, this.#onError('run-quarantined'))
    this.#rescuer = singleFlight(() => rescueOrphaned(controlDatabase, workers), this.#onError('rescue'))
    const reconcile = createReconciler({ database, boss, notifier: this.#notifier, log })
    this.#reconciler = singleFlight(reconcile, this.#onError('reconcile'))
    this.#scheduler = singleFlight(createScheduler(scheduling, this.#notifier), this.#onError('fire-schedules'))
    this.#tasks = [
      ...[this.#quarantine, this.#rescuer, this.#reconciler, this.#scheduler],
      this.#every('poll', pollIntervalMs, () => this.#poll(), maxPollShare),
      this.#every('heartbeats', heartbeatIntervalMs, () => this.#sendHeartbeats()),
      this.#every('cancellations', cancellationPollIntervalMs, () => cancellations.poll()),
      this.#every('run-times', runTimesIntervalMs, () => runTimes.write()),
      this.#every('write-schedules', schedulesIntervalMs, async () => void (await writeSchedules(scheduling))),
      this.#every('partitions', partitionsIntervalMs, () => maintainPartitions(database, log, draining)),
      this.#every('prune-quarantine', pruneIntervalMs, () => pruneQuarantine(database)),
    ]
  }

  /** Returns `database-unreachable` when a poll has waited for its answer for 5 seconds. */
  readonly health = (): Health => {
    if (this.#stopped) return 'draining'
    const since = this.#unansweredSince
    const isUnanswered = since !== undefined && performance.now() - since > pollTimeoutMs
    return isUnanswered ? 'database-unreachable' : 'ready'
  }

  readonly metrics = (): Promise<string> => this.#metrics.text()

  readonly stop = (): Promise<void> => {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  #operationWorker(operation: Operation): OperationWorker {
    const { handlers, database, boss, log } = this.#parts
    return {
      operation,
      handler: handlers.get(operation.name) as Handler,
      claims: new Claims(database, boss, operation),
      ...{ database, boss, notifier: this.#notifier, metrics: this.#metrics },
      log: log.child({ operation: operation.name }),
    }
  }

  #wake(operations: readonly string[]): void {
    for (const { worker, loop } of this.#workers) if (operations.includes(worker.operation.name)) loop.wake()
  }

  #onError(task: string): (error: Error) => void {
    return (err) => {
      if (isOutage(err)) this.#connection.recordOutage()
      this.#parts.log.warn({ err, task }, 'Maintenance task failed; retrying')
    }
  }

  #every(task: string, intervalMs: number, run: () => Promise<void>, maxShare?: number): BackgroundTask {
    return every({ intervalMs, run, onError: this.#onError(task), ...(maxShare !== undefined && { maxShare }) })
  }

  async #poll(): Promise<void> {
    const { controlDatabase, operations, scheduling } = this.#parts
    this.#unansweredSince ??= performance.now()
    const names = operations.map(({ name }) => name)
    const due = await pollDueWork(controlDatabase, names, [...scheduling.schedules.keys()])
    this.#unansweredSince = undefined
    this.#wake(due.operations)
    if (due.hasSchedules) this.#scheduler.run()
    if (due.hasQuarantined) this.#quarantine.run()
    if (due.isRescueDue && this.#connection.isStable()) this.#rescuer.run()
    if (due.reconcileSince) this.#reconciler.run(due.reconcileSince)
  }

  async #sendHeartbeats(): Promise<void> {
    const held = this.#workers.map(({ worker, loop }) => ({ name: worker.operation.name, claims: loop.active() }))
    await sendHeartbeats(this.#parts.controlDatabase, held)
    this.#connection.recordHeartbeat()
  }

  async #stop(): Promise<void> {
    const { graceSeconds, log } = this.#parts
    this.#draining.abort()
    // A quarantined job that has just been claimed belongs to no loop yet.
    const drained = Promise.all([this.#quarantine.stop(), ...this.#workers.map(({ loop }) => loop.drain())])
    if (!(await settledWithin(drained, graceSeconds * 1000))) await this.#interrupt()
    if (await settledWithin(this.#close(), closeTimeoutMs)) return
    log.warn(`Worker did not close within ${closeTimeoutMs / 1000} s; some connections may stay open`)
  }

  /** Aborts the jobs that are still running, and releases them. */
  async #interrupt(): Promise<void> {
    const active = this.#workers.map(({ worker, loop }) => ({ worker, claims: loop.active() }))
    this.#stopping.abort(new Error('The worker is stopping'))
    // A settle that hangs holds the row of its job, so the claim could not be released.
    this.#parts.database.terminateActive()
    // The next worker must not run a job that a child of this one still performs.
    await this.#parts.isolation.close()
    const released = Promise.all(active.map(({ worker, claims }) => releaseClaims(worker, claims)))
    await settledWithin(released, releaseTimeoutMs)
  }

  async #close(): Promise<void> {
    try {
      await Promise.all(this.#tasks.map((task) => task.stop()))
      await this.#listener.close()
      await this.#progress.close()
      await this.#notifier.flush()
    } finally {
      await this.#parts.close()
    }
  }
}
