import { AcceptedError } from './error.ts'

/** How long a call of the client may take. */
export interface CallOptions {
  /** Aborts the call. The call then rejects with the reason of the signal. */
  signal?: AbortSignal
  /** After this many seconds the call rejects with an error whose code is `timeout`. Default: unlimited. */
  timeoutSeconds?: number
}

const maxTimerMs = 2 ** 31 - 1

/** Bounds a call, and each step of it, in time. */
export class Deadline {
  readonly #signal: AbortSignal | undefined
  readonly #end: number
  /** Why the call has not ended yet. */
  #lastError: AcceptedError | undefined

  constructor({ signal, timeoutSeconds = Number.POSITIVE_INFINITY }: CallOptions = {}) {
    this.#signal = signal
    this.#end = Date.now() + timeoutSeconds * 1000
  }

  /** @throws the reason of the caller's signal, or an error with the code `timeout` */
  #check(): void {
    this.#signal?.throwIfAborted()
    if (Date.now() >= this.#end) {
      const cause = this.#lastError
      throw new AcceptedError('The call took longer than its timeoutSeconds', { code: 'timeout', cause })
    }
  }

  /**
   * Runs a step of the call.
   *
   * @param what the subject of error messages
   * @param maxMs how long the step may take
   * @param step gets a signal that aborts at the end of this time, and a function that removes the limit
   * @throws AcceptedError, or the reason of the caller's signal
   */
  async run<Value>(what: string, maxMs: number, step: Step<Value>): Promise<Value> {
    this.#check()
    try {
      return await this.#limit(maxMs, step)
    } catch (cause) {
      const isKnown = cause instanceof AcceptedError
      if (!isKnown) this.#check()
      const unanswered = { code: 'network-error', cause }
      this.#lastError = isKnown ? cause : new AcceptedError(`${what} got no complete answer`, unanswered)
      throw this.#lastError
    }
  }

  async sleep(ms: number): Promise<void> {
    this.#check()
    await this.#limit(ms, rejectOnAbort).catch(() => this.#check())
  }

  async #limit<Value>(maxMs: number, step: Step<Value>): Promise<Value> {
    const controller = new AbortController()
    const abort = () => controller.abort()
    // A timer may end a millisecond early.
    const startTimer = (ms: number) => setTimeout(abort, Math.min(ms + 1, this.#end - Date.now() + 1, maxTimerMs))
    let timer = startTimer(maxMs)
    const unlimit = () => {
      clearTimeout(timer)
      timer = startTimer(maxTimerMs)
    }
    this.#signal?.addEventListener('abort', abort)
    try {
      // A `fetch` of the app may ignore its signal.
      return await Promise.race([rejectOnAbort(controller.signal), step(controller.signal, unlimit)])
    } finally {
      clearTimeout(timer)
      this.#signal?.removeEventListener('abort', abort)
    }
  }
}

type Step<Value> = (signal: AbortSignal, unlimit: () => void) => Promise<Value>

const rejectOnAbort = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
