import type { Logger } from 'pino'
import type { Database } from '../src/db/database.ts'
import { createErrorReporter } from '../src/db/error-reporter.ts'
import { type Listener, listen } from '../src/db/listener.ts'
import { channels, createNotifier, type Notifier, unpack } from '../src/db/notifier.ts'
import type { Health } from '../src/health-server.ts'
import { createEndings, type Endings } from '../src/jobs/endings.ts'
import type { Seals } from '../src/jobs/seals.ts'
import type { Operation } from '../src/operation.ts'
import { settledWithin } from '../src/primitives/timeout.ts'
import type { Tracing } from '../src/primitives/tracing.ts'
import type { PgBoss } from '../src/queue/boss.ts'
import { Claims } from '../src/queue/claims.ts'
import { type ActivityLog, createActivityLog } from './activity.ts'
import { AttemptSpans } from './execution/attempt-spans.ts'
import { createCancellations } from './execution/cancellation.ts'
import { ClaimLoop } from './execution/claim-loop.ts'
import type { OperationWorker } from './execution/operation-worker.ts'
import { createProgressWriter, type ProgressWriter } from './execution/progress.ts'
import { releaseClaims } from './execution/release.ts'
import { createRunTimes } from './execution/run-times.ts'
import type { Handler } from './handlers.ts'
import type { Isolation } from './isolation/child-pool.ts'
import type { Registration } from './maintenance/registration.ts'
import { createDueRunner, type DueRunner } from './maintenance/run-due.ts'
import type { SchedulerContext } from './maintenance/schedule-context.ts'
import { MaintenanceTasks } from './maintenance/tasks.ts'
import { createMetrics, type Metrics } from './metrics.ts'

export interface RuntimeParts {
  /** The operations whose jobs this process claims. */
  operations: readonly Operation[]
  /** All operations of the app, by name. */
  allOperations: ReadonlyMap<string, Operation>
  /** The handlers, by the name of their operation. */
  handlers: ReadonlyMap<string, Handler>
  seals: Seals
  scheduling: SchedulerContext
  isolation: Isolation
  registration: Registration
  database: Database
  /** For heartbeats and polls, which must not wait until a handler frees a connection. */
  controlDatabase: Database
  boss: PgBoss
  log: Logger
  /** Undefined if the app does not trace. */
  tracing: Tracing | undefined
  graceSeconds: number
  close(): Promise<void>
}

/** How long the release of running jobs may take after the grace period. */
const releaseTimeoutMs = 2_000
/** How long it may take to close everything after the release. */
const closeTimeoutMs = 2_000

/** A running worker: one claim loop for each operation, a listener, and the maintenance tasks. */
export class WorkerRuntime {
  readonly #parts: RuntimeParts
  readonly #draining = new AbortController()
  readonly #stopping = new AbortController()
  readonly #notifier: Notifier
  readonly #progress: ProgressWriter
  readonly #metrics: Metrics
  readonly #activity: ActivityLog
  readonly #workers: { worker: OperationWorker; loop: ClaimLoop }[]
  readonly #listener: Listener
  readonly #maintenance: MaintenanceTasks
  readonly due: DueRunner
  #stopped: Promise<void> | undefined

  constructor(parts: RuntimeParts) {
    const { database, controlDatabase, boss, scheduling, log } = parts
    this.#parts = parts
    this.#notifier = createNotifier(database)
    const report = createErrorReporter(log)
    this.#progress = createProgressWriter(database, this.#notifier, report)
    const cancellations = createCancellations(database)
    const runTimes = createRunTimes(database)
    const names = parts.operations.map(({ name }) => name)
    this.#activity = createActivityLog(log)
    const metrics = createMetrics(database, {
      operations: parts.operations,
      running: (name) => this.#workers.find(({ worker }) => worker.operation.name === name)?.loop.active().length ?? 0,
      isListening: () => this.#listener.isListening(),
    })
    this.#metrics = {
      ...metrics,
      countOutcomes: (operation, counts) => {
        metrics.countOutcomes(operation, counts)
        this.#activity.count(operation, counts)
      },
    }
    const context = { progress: this.#progress, cancellations, runTimes, stopping: this.#stopping.signal }
    this.#workers = parts.operations.map((operation) => {
      const worker = this.#operationWorker(operation)
      return { worker, loop: new ClaimLoop(worker, context) }
    })
    const wake = (operations: readonly string[]) => this.#wake(operations)
    const endings = this.#endings()
    this.#listener = listen(database, {
      channels: {
        [channels.work]: (payload) => wake(unpack(payload)),
        [channels.cancel]: (payload) => cancellations.request(unpack(payload)),
        [channels.end]: () => this.#maintenance.completeEnds(),
      },
      onListening: () => wake(names),
      onError: (error) => report(error, 'Notifications are not received; polling until the connection is back'),
    })
    this.#maintenance = new MaintenanceTasks({
      ...{
        workers: this.#workers,
        scheduling,
        cancellations,
        runTimes,
        endings,
        wake,
        registration: parts.registration,
      },
      ...{ database, controlDatabase, boss, notifier: this.#notifier, report, log, draining: this.#draining.signal },
    })
    const loops = this.#workers.map(({ loop }) => loop)
    this.due = createDueRunner(loops, this.#maintenance)
  }

  /**
   * Returns `database-unreachable` when a poll has waited for its answer for 5 seconds, and `database-read-only` when the
   * poll's server accepts no writes.
   */
  readonly health = (): Health => {
    if (this.#stopped) return 'draining'
    if (this.#maintenance.isPollOverdue()) return 'database-unreachable'
    return this.#parts.controlDatabase.isReadOnly() ? 'database-read-only' : 'ready'
  }

  readonly metrics = (): Promise<string> => this.#metrics.text()

  readonly metricValues = () => this.#metrics.values()

  readonly stop = (): Promise<void> => {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  #operationWorker(operation: Operation): OperationWorker {
    const { handlers, seals, database, boss, log, registration, tracing, allOperations } = this.#parts
    const handler = handlers.get(operation.name) as Handler
    return {
      operation,
      operations: allOperations,
      workerId: registration.id,
      handler,
      claims: new Claims(database, boss, operation, handler.perform && registration.id),
      ...{ tracing, spans: tracing && new AttemptSpans(tracing, operation, registration.id) },
      ...{ seals, database, boss, notifier: this.#notifier, metrics: this.#metrics },
      log: log.child({ operation: operation.name }),
    }
  }

  #endings(): Endings {
    const { database, allOperations, seals, log } = this.#parts
    return createEndings({
      ...{ database, operations: allOperations, seals, notifier: this.#notifier, log },
      onEnded: ({ name }, jobs) => {
        const failed = jobs.filter(({ status }) => status === 'failed').length
        this.#metrics.countOutcomes(name, { failed, canceled: jobs.length - failed })
      },
      onFailure: ({ name }) => this.#metrics.countAbandonFailure(name),
    })
  }

  #wake(operations: readonly string[]): void {
    for (const { worker, loop } of this.#workers) if (operations.includes(worker.operation.name)) loop.wake()
  }

  async #stop(): Promise<void> {
    const { graceSeconds, log } = this.#parts
    const running = this.#workers.reduce((sum, { loop }) => sum + loop.active().length, 0)
    log.info({ running, graceSeconds }, 'Worker claims no more jobs; it stops when its running jobs have ended')
    this.#draining.abort()
    void this.#parts.registration.write('draining').catch(() => {})
    // Quarantine stops separately, because a quarantined job that has just been claimed belongs to no loop yet.
    const drained = Promise.all([this.#maintenance.stopQuarantine(), ...this.#workers.map(({ loop }) => loop.drain())])
    if (!(await settledWithin(drained, graceSeconds * 1000))) await this.#interrupt()
    const isClosed = await settledWithin(this.#close(), closeTimeoutMs)
    this.#activity.close()
    if (isClosed) log.info('Worker has stopped')
    else log.warn(`Worker did not close within ${closeTimeoutMs / 1000} s; some connections may stay open`)
  }

  /** Aborts the jobs that are still running, and releases them. */
  async #interrupt(): Promise<void> {
    const active = this.#workers.map(({ worker, loop }) => ({ worker, claims: loop.active() }))
    this.#stopping.abort(new Error('The worker is stopping'))
    // A settle that hangs keeps its job locked. While the job is locked, its claim cannot be released.
    this.#parts.database.terminateActive()
    // Another worker must not run a job that a child of this worker still performs.
    await this.#parts.isolation.close()
    const released = Promise.all(active.map(({ worker, claims }) => releaseClaims(worker, claims)))
    await settledWithin(released, releaseTimeoutMs)
  }

  async #close(): Promise<void> {
    try {
      await this.#maintenance.stop()
      // While Postgres is unavailable, the row stays. Another worker deletes it after ten minutes.
      await this.#parts.registration.delete().catch(() => {})
      await this.#listener.close()
      await this.#progress.close()
      await this.#notifier.flush()
    } finally {
      await this.#parts.close()
    }
  }
}
