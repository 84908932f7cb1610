import { setImmediate as immediate } from 'node:timers/promises'
import { createErrorReporter, type ReportError } from '../../src/db/error-reporter.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { type Completer, createCompleter, maxConcurrentBatches } from './completer.ts'
import { type RunContext, runBatch, runEach } from './executor.ts'
import type { OperationWorker } from './operation-worker.ts'
import { releaseClaims } from './release.ts'

export const defaultBatchSize = 100
export const defaultConcurrency = 10

/**
 * Claims and runs the jobs of one operation in a loop: claim, run, free the slots. Claims no more jobs than it can run
 * immediately, because the time limit of an attempt in pg-boss starts with the claim.
 */
export class ClaimLoop {
  readonly #worker: OperationWorker
  readonly #context: RunContext & { completer: Completer }
  /** Maximum number of jobs in a batch; undefined for a handler with `perform`. */
  readonly #batchSize: number | undefined
  /** Maximum number of concurrent batches. With `perform`: maximum number of concurrent jobs. */
  readonly #slots: number
  /** The claims that this loop holds. */
  readonly #active = new Set<Claim>()
  #runningBatches = 0
  #runs = 0
  #hasClaimed = false
  /** There may be work: the loop was notified, or its last claim was full. */
  #isWoken = true
  #isClaiming = false
  #isPaused = false
  #isDraining = false
  /** Ends the current wait of the loop. */
  #proceed = () => {}
  #onIdle: (() => void)[] = []
  readonly #report: ReportError
  readonly #looping: Promise<void>

  constructor(worker: OperationWorker, context: RunContext) {
    const { handler, operation } = worker
    this.#worker = worker
    this.#context = { ...context, completer: createCompleter(worker, context) }
    this.#batchSize = handler.perform ? undefined : (handler.batchSize ?? defaultBatchSize)
    // While some batches settle, the next batch is claimed.
    this.#slots = handler.perform ? (handler.concurrency ?? defaultConcurrency) : maxConcurrentBatches(operation)
    this.#report = createErrorReporter(worker.log)
    this.#looping = this.#loop()
  }

  /** Makes the loop claim soon, because there may be work. */
  readonly wake = (): void => {
    this.#isWoken = true
    this.#proceed()
  }

  /** Like {@link wake}, and makes the next claim look at all due jobs. */
  wakeToRescan(): void {
    this.#worker.claims.rescan()
    this.wake()
  }

  /** Returns the claims that this loop holds. */
  active(): Claim[] {
    return [...this.#active]
  }

  /** Maximum number of jobs for one call of {@link run}: a batch, or one job for each slot of a handler with `perform`. */
  get maxClaims(): number {
    return this.#batchSize ?? this.#slots
  }

  /** How many batches, or jobs with `perform`, this loop has started to run. */
  get runs(): number {
    return this.#runs
  }

  /**
   * Returns whether this loop has claimed jobs since the last call of this method, so that its next claim reads little.
   * False for jobs in groups: their claims always read all waiting jobs.
   */
  hasClaimedSinceLastCall(): boolean {
    const hasClaimed = this.#hasClaimed && this.#worker.operation.groupConcurrency === undefined
    this.#hasClaimed = false
    return hasClaimed
  }

  /** Returns whether no job is running, and the last claim found no more due jobs. */
  isSettled(): boolean {
    return this.#isDraining || (!this.#isWoken && this.#isIdle())
  }

  /** Resolves when {@link isSettled} is true. */
  async untilSettled(): Promise<void> {
    while (!this.isSettled()) {
      await this.#untilIdle()
      // The loop claims in the meantime, if it was woken.
      await immediate()
    }
  }

  /** Stops claiming until {@link resume} is called. Resolves when no job is running. */
  pause(): Promise<void> {
    this.#isPaused = true
    return this.#untilIdle()
  }

  resume(): void {
    this.#isPaused = false
    this.#proceed()
  }

  /** Stops claiming for good. Resolves when no job is running. */
  drain(): Promise<void> {
    this.#isDraining = true
    this.#proceed()
    return this.#looping
  }

  /**
   * Runs claimed jobs. Quarantine also calls it, with its own claims.
   *
   * @returns whether all jobs have ended; false when jobs could not begin or the worker stopped
   */
  async run(claims: readonly Claim[]): Promise<boolean> {
    const { operation, metrics } = this.#worker
    for (const { waitedSeconds } of claims) {
      if (waitedSeconds !== undefined) metrics.observeWait(operation.name, waitedSeconds)
    }
    this.#worker.spans?.claimed(claims)
    this.#runningBatches += 1
    this.#runs += 1
    for (const claim of claims) this.#active.add(claim)
    try {
      return await this.#execute(claims)
    } finally {
      this.#runningBatches -= 1
      this.#free(claims)
      this.#notifyIdle()
    }
  }

  async #execute(claims: readonly Claim[]): Promise<boolean> {
    // The worker was stopped while it was claiming these jobs.
    if (this.#isDraining) {
      await releaseClaims(this.#worker, claims)
      return false
    }
    if (this.#batchSize) {
      await runBatch(this.#worker, claims, this.#context)
      return !this.#context.stopping.aborted
    }
    const haveBegun = await runEach(this.#worker, claims, this.#context, (claim) => this.#free([claim]))
    return haveBegun && !this.#context.stopping.aborted
  }

  #free(claims: readonly Claim[]): void {
    const ended = claims.filter((claim) => this.#active.delete(claim))
    // Other jobs of the same groups or limits, or deliveries to the same endpoints, may now be claimed.
    if (this.#worker.claims.freePlaces(ended)) this.#isWoken = true
    this.#proceed()
  }

  #usedSlots(): number {
    return this.#batchSize ? this.#runningBatches : this.#active.size
  }

  async #loop(): Promise<void> {
    while (!this.#isDraining) {
      if (this.#isPaused || !this.#isWoken || this.#usedSlots() >= this.#slots) {
        await new Promise<void>((resolve) => {
          this.#proceed = resolve
        })
        // Waits, so that all jobs that end in this turn of the event loop free their slots before the next claim.
        await immediate()
        continue
      }
      await this.#claim()
    }
    await this.#untilIdle()
  }

  async #claim(): Promise<void> {
    this.#isWoken = false
    this.#isClaiming = true
    const limit = this.#batchSize ?? this.#slots - this.#usedSlots()
    try {
      const claims = await this.#worker.claims.claim(limit, this.wake, this.#active)
      // When a claim is full, there are probably more due jobs.
      if (claims.length === limit) this.#isWoken = true
      if (claims.length === 0) return
      this.#hasClaimed = true
      void this.run(claims)
    } catch (error) {
      this.#report(error, 'Jobs could not be claimed; trying again with the next poll')
    } finally {
      this.#isClaiming = false
      this.#notifyIdle()
    }
  }

  #untilIdle(): Promise<void> {
    return new Promise((resolve) => {
      this.#onIdle.push(resolve)
      this.#notifyIdle()
    })
  }

  #isIdle(): boolean {
    return !this.#isClaiming && this.#runningBatches === 0
  }

  #notifyIdle(): void {
    if (!this.#isIdle()) return
    for (const resolve of this.#onIdle.splice(0)) resolve()
  }
}
