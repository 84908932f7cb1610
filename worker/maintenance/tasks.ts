import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Database } from '../../src/db/database.ts'
import type { ReportError } from '../../src/db/error-reporter.ts'
import type { Notifier } from '../../src/db/notifier.ts'
import { isOutage } from '../../src/db/sqlstate.ts'
import type { Endings } from '../../src/jobs/endings.ts'
import type { Operation } from '../../src/operation.ts'
import { type BackgroundTask, every, type SingleFlight, singleFlight } from '../../src/primitives/periodic.ts'
import type { PgBoss } from '../../src/queue/boss.ts'
import { heartbeatIntervalMs, sendHeartbeats } from '../../src/queue/heartbeat.ts'
import { maintainLimits } from '../../src/queue/limit-keys.ts'
import type { Cancellations } from '../execution/cancellation.ts'
import type { ClaimLoop } from '../execution/claim-loop.ts'
import type { OperationWorker } from '../execution/operation-worker.ts'
import type { RunTimes } from '../execution/run-times.ts'
import { reportChildren, resolveMissed } from './children.ts'
import { createConnectionHealth } from './connection-health.ts'
import { deleteOldChanges } from './old-changes.ts'
import { maintainPartitions } from './partitions.ts'
import { type DueWork, isQuarantinedDue, pollDueWork } from './poll.ts'
import { createQuarantine, pruneQuarantine } from './quarantine.ts'
import { createReconciler } from './reconciler.ts'
import { deleteSilentWorkers, type Registration } from './registration.ts'
import { rescueOrphaned } from './rescuer.ts'
import { type SchedulerContext, scheduleTime } from './schedule-context.ts'
import { createScheduler, writeSchedules } from './scheduler.ts'
import { recordThroughput } from './throughput.ts'

export interface MaintenanceContext {
  workers: readonly { worker: OperationWorker; loop: ClaimLoop }[]
  scheduling: SchedulerContext
  registration: Registration
  cancellations: Cancellations
  runTimes: RunTimes
  endings: Endings
  database: Database
  /** For heartbeats and polls, which must not wait until a handler frees a connection. */
  controlDatabase: Database
  boss: PgBoss
  notifier: Notifier
  report: ReportError
  log: Logger
  /** Aborts when the worker stops claiming jobs. */
  draining: AbortSignal
  /** Wakes the claim loops of these operations, so that they claim. */
  wake(operations: readonly string[]): void
}

/** The poll finds work whose notification was lost. */
const pollIntervalMs = 1_000
/**
 * Polls take at most this share of the time. A poll can be slow: while a transaction holds an old snapshot, the poll
 * reads every row that was claimed since then.
 */
const maxPollShare = 0.1
/** The longest pause that this causes. A poll also finds the jobs of dead workers, which must not wait for long. */
const maxPollPauseMs = 10_000
const cancellationPollIntervalMs = 2_000
const minuteMs = 60_000
const runTimesIntervalMs = 1_000
const partitionsIntervalMs = 60 * minuteMs
const missedIntervalMs = 10_000
const pruneIntervalMs = 10 * minuteMs
/** How often {@link MaintenanceTasks.pollNow} looks whether a quarantined job may run. */
const quarantinePollIntervalMs = 50
/** The worker is unhealthy when a poll has waited this long for its answer. */
const pollTimeoutMs = 5_000

/** The background tasks of a worker. Some run at intervals. The poll starts the others when they are due. */
export class MaintenanceTasks {
  readonly #context: MaintenanceContext
  /** The operations that this worker runs. */
  readonly #operations: readonly Operation[]
  readonly #connection = createConnectionHealth()
  readonly #quarantine: SingleFlight<void>
  readonly #rescuer: SingleFlight<void>
  readonly #reconciler: SingleFlight<void>
  readonly #scheduler: SingleFlight<void>
  readonly #endings: SingleFlight<void>
  readonly #children: SingleFlight<void>
  readonly #periodic: BackgroundTask[]
  /**
   * The start time of the poll that still waits for its answer, by `performance.now()`; undefined when no poll waits.
   */
  #unansweredSince: number | undefined = performance.now()

  /** Whether a job waits for its children or for another job. */
  #hasRelatives = true
  #isPaused = false
  #isRunByTest = false

  constructor(context: MaintenanceContext) {
    const { database, controlDatabase, boss, scheduling, notifier, log, draining } = context
    this.#context = context
    const workers = context.workers.map(({ worker }) => worker)
    this.#operations = workers.map(({ operation }) => operation)
    const quarantine = createQuarantine({ database, workers: context.workers, draining, log })
    this.#quarantine = singleFlight(quarantine, this.#onError('run-quarantined'))
    this.#rescuer = singleFlight(() => rescueOrphaned(controlDatabase, workers), this.#onError('rescue'))
    const reconcile = createReconciler({ database, boss, notifier, log })
    this.#reconciler = singleFlight(reconcile, this.#onError('reconcile'))
    this.#scheduler = singleFlight(createScheduler(scheduling, notifier), this.#onError('fire-schedules'))
    this.#endings = singleFlight(() => context.endings.completeDue(), this.#onError('complete-ends'))
    const report = () => reportChildren(controlDatabase, notifier, draining)
    this.#children = singleFlight(report, this.#onError('report-children'))
    this.#periodic = [
      this.#every('poll', pollIntervalMs, async () => void (await this.#poll()), maxPollShare),
      this.#every('heartbeats', heartbeatIntervalMs, () => this.#sendHeartbeats()),
      this.#every('cancellations', cancellationPollIntervalMs, () => context.cancellations.poll()),
      this.#every('run-times', runTimesIntervalMs, () => context.runTimes.write()),
      this.#every('write-schedules', minuteMs, async () => void (await writeSchedules(scheduling))),
      this.#every('partitions', partitionsIntervalMs, () => maintainPartitions(database, log, draining)),
      this.#every('delete-old-changes', minuteMs, () => deleteOldChanges(database, draining), maxPollShare),
      this.#every('maintain-limits', minuteMs, () => maintainLimits(database), maxPollShare),
      this.#every('record-throughput', minuteMs, () => recordThroughput(database), maxPollShare),
      this.#every('prune-quarantine', pruneIntervalMs, () => pruneQuarantine(database)),
      this.#every('resolve-missed', missedIntervalMs, async () => {
        if (this.#hasRelatives) await resolveMissed(database, notifier)
      }),
      this.#every('delete-silent-workers', pruneIntervalMs, () => deleteSilentWorkers(database)),
    ]
  }

  /** Returns whether a poll has waited for its answer for more than 5 seconds. */
  isPollOverdue(): boolean {
    const since = this.#unansweredSince
    return since !== undefined && performance.now() - since > pollTimeoutMs
  }

  /** Ends the jobs whose end is decided. */
  completeEnds(): void {
    if (!this.#isPaused) this.#endings.run()
  }

  /** Makes polls start nothing until {@link resume} is called. */
  pause(): void {
    this.#isPaused = true
  }

  /** For the test kit: from now on, only {@link pollNow} rescues jobs. */
  resume(): void {
    this.#isPaused = false
    this.#isRunByTest = true
  }

  /**
   * Polls, and waits until the jobs of dead workers are rescued, schedules have fired and decided ends are complete.
   * Returns whether there was any work. Call it while this worker runs no job: a test may have made heartbeats old.
   */
  async pollNow(): Promise<boolean> {
    const due = await this.#poll({ isByTest: true })
    const tasks = [this.#rescuer, this.#scheduler, this.#endings, this.#quarantine]
    await Promise.all(tasks.map((task) => task.idle()))
    if (due.operations.length > 0 || due.hasSchedules || due.hasEndings) return true
    // Another call has ended, and so paused this worker: then neither of these starts.
    if (this.#isPaused) return false
    if (due.hasOrphans) return true
    if (!due.hasQuarantined || !(await isQuarantinedDue(this.#context.database, this.#operations))) return false
    // The next turn of quarantined jobs is some seconds after the last one.
    await delay(quarantinePollIntervalMs)
    return true
  }

  /** Stops claiming quarantined jobs. Resolves when no quarantined job is running. */
  stopQuarantine(): Promise<void> {
    return this.#quarantine.stop()
  }

  /** Stops all tasks. Resolves when their current runs have ended. */
  async stop(): Promise<void> {
    const onDemand = [this.#quarantine, this.#rescuer, this.#reconciler, this.#scheduler, this.#endings, this.#children]
    await Promise.all([...this.#periodic, ...onDemand].map((task) => task.stop()))
  }

  #onError(task: string): (error: Error) => void {
    return (error) => {
      if (isOutage(error)) this.#connection.recordOutage()
      this.#context.report(error, 'Maintenance task failed; retrying', { task })
    }
  }

  #every(task: string, intervalMs: number, run: () => Promise<void>, maxShare = 1): BackgroundTask {
    return every({ intervalMs, run, onError: this.#onError(task), maxShare, maxPauseMs: maxPollPauseMs })
  }

  async #poll({ isByTest = false } = {}): Promise<DueWork> {
    const { controlDatabase, scheduling, wake, workers } = this.#context
    this.#unansweredSince ??= performance.now()
    const rescues = !this.#isPaused && (isByTest || (!this.#isRunByTest && this.#connection.isStable()))
    // Loops that have just claimed jobs find due jobs themselves, and read less for that.
    const claiming = workers.filter(({ loop }) => loop.hasClaimedSinceLastCall())
    const busy = isByTest ? [] : claiming.map(({ worker }) => worker.operation.name)
    const options = { busy, scheduleNow: scheduleTime(scheduling), rescues }
    const due = await pollDueWork(controlDatabase, this.#operations, [...scheduling.schedules.keys()], options)
    this.#unansweredSince = undefined
    this.#hasRelatives = due.hasParents || due.hasDependencies
    if (this.#isPaused) return due
    wake(due.operations)
    if (due.hasSchedules) this.#scheduler.run()
    if (due.hasQuarantined) this.#quarantine.run()
    // Makes up for lost notifications. Comes after the quarantine, which rests while a loop is awake.
    wake(busy)
    if (due.hasOrphans) this.#rescuer.run()
    if (due.isReconcileDue) this.#reconciler.run()
    if (due.hasEndings) this.#endings.run()
    if (due.hasParents) this.#children.run()
    return due
  }

  async #sendHeartbeats(): Promise<void> {
    const { controlDatabase, workers, registration, draining } = this.#context
    const active = workers.map(({ worker, loop }) => ({ name: worker.operation.name, claims: loop.active() }))
    await sendHeartbeats(controlDatabase, active)
    this.#connection.recordHeartbeat()
    await registration.write(draining.aborted ? 'draining' : 'ready')
  }
}
