import type { Logger } from 'pino'
import { settledWithin } from '../src/primitives/timeout.ts'
import type { Handlers } from '../worker/handlers.ts'
import type { WorkerRuntime } from '../worker/runtime.ts'
import { startWorker } from '../worker/worker.ts'
import type { Clock } from './clock.ts'

export interface TestWorkerOptions {
  handlers: Handlers
  database: string
  encryptionKeys: string
  log: Logger
  clock: Clock
}

/** Webhooks may call the servers of a test. */
const loopback = ['127.0.0.0/8', '::1']

/** A real worker in this process. It works only during {@link runUntilIdle}. */
export class TestWorker {
  readonly #options: TestWorkerOptions
  #runtime: Promise<WorkerRuntime> | undefined

  constructor(options: TestWorkerOptions) {
    this.#options = options
  }

  /**
   * Works until nothing is due.
   *
   * @returns false when something is still due, or running, after the timeout. The worker then goes on.
   */
  async runUntilIdle(timeoutMs: number): Promise<boolean> {
    const { clock, ...options } = this.#options
    // Starting a worker takes longer than most tests, so it starts once.
    this.#runtime ??= startWorker({ ...options, webhookAllow: loopback, graceSeconds: 0 }, clock.expression)
    const { due } = await this.#runtime
    const running = due.run().then(() => due.pause())
    return settledWithin(running, timeoutMs)
  }

  async close(): Promise<void> {
    const runtime = await this.#runtime?.catch(() => undefined)
    await runtime?.stop()
  }
}
