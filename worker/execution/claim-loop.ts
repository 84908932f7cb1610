import { setImmediate as immediate } from 'node:timers/promises'
import type { Claim } from '../../src/queue/claim.ts'
import { type Completer, createCompleter } from './completer.ts'
import { type RunContext, runBatch, runEach } from './executor.ts'
import type { OperationWorker } from './operation-worker.ts'
import { releaseClaims } from './release.ts'

const defaultBatchSize = 100
const defaultConcurrency = 10
/** While one batch settles, the next one is claimed. */
const maxConcurrentBatches = 2

/**
 * Claims and runs the jobs of one operation: claim → run → free the slots, again and again. It claims no more jobs than
 * it has free slots, because the timeout of an attempt starts with the claim.
 */
export class ClaimLoop {
  readonly #worker: OperationWorker
  readonly #context: RunContext & { completer: Completer }
  /** Maximum number of jobs in a batch; undefined for a handler with `perform`. */
  readonly #batchSize: number | undefined
  /** Maximum number of concurrent batches or, with `perform`, of concurrent jobs. */
  readonly #slots: number
  /** Every job that this loop is responsible for. */
  readonly #active = new Set<Claim>()
  #runningBatches = 0
  /** There may be work: the loop was notified, or its last claim was full. */
  #isWoken = true
  #isClaiming = false
  #isPaused = false
  #isDraining = false
  /** Ends the wait of the loop. */
  #proceed = () => {}
  #onIdle: (() => void)[] = []
  readonly #looping: Promise<void>

  constructor(worker: OperationWorker, context: RunContext) {
    const { handler } = worker
    this.#worker = worker
    this.#context = { ...context, completer: createCompleter(worker, context) }
    this.#batchSize = handler.perform ? undefined : (handler.batchSize ?? defaultBatchSize)
    this.#slots = handler.perform ? (handler.concurrency ?? defaultConcurrency) : maxConcurrentBatches
    this.#looping = this.#loop()
  }

  /** Claims soon: there may be work. */
  readonly wake = (): void => {
    this.#isWoken = true
    this.#proceed()
  }

  /** The claims that this loop is responsible for. */
  active(): Claim[] {
    return [...this.#active]
  }

  /** Claims nothing until {@link resume}. Resolves when no job runs. */
  pause(): Promise<void> {
    this.#isPaused = true
    return this.#untilIdle()
  }

  resume(): void {
    this.#isPaused = false
    this.#proceed()
  }

  /** Claims nothing more. Resolves when no job runs. */
  drain(): Promise<void> {
    this.#isDraining = true
    this.#proceed()
    return this.#looping
  }

  /**
   * Runs claims, including those that quarantine has made.
   *
   * @returns whether they have ended; false when the worker stopped first
   */
  async run(claims: readonly Claim[]): Promise<boolean> {
    const { operation, metrics } = this.#worker
    for (const { waitedSeconds } of claims) {
      if (waitedSeconds !== undefined) metrics.observeWait(operation.name, waitedSeconds)
    }
    this.#runningBatches += 1
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
    // The claim was in progress when the worker was stopped.
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
    for (const claim of claims) this.#active.delete(claim)
    // The group of the job has room again, so jobs that could not be claimed may be due.
    if (this.#worker.operation.groupConcurrency !== undefined) this.#isWoken = true
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
        // Lets all jobs that end in this turn free their slots before the next claim.
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
      const claims = await this.#worker.claims.claim(limit, this.wake)
      // A full claim means that there is probably more.
      if (claims.length === limit) this.#isWoken = true
      if (claims.length > 0) void this.run(claims)
    } catch (err) {
      this.#worker.log.warn({ err }, 'Jobs could not be claimed; trying again with the next poll')
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

  #notifyIdle(): void {
    if (this.#isClaiming || this.#runningBatches > 0) return
    for (const resolve of this.#onIdle.splice(0)) resolve()
  }
}
