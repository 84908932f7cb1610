import { setTimeout as delay } from 'node:timers/promises'

/** Background work that can be stopped. */
export interface BackgroundTask {
  /** Stops the task: no further run starts. Resolves when the current run has ended. */
  stop(): Promise<void>
}

/** Upper bound of {@link dutyCyclePause}, in milliseconds: what a run looks for must not wait for minutes. */
const maxDutyCyclePauseMs = 30_000
/**
 * Upper bound of the pause after a failed run, in milliseconds. Such a run took long because it waited for a dead network
 * or for a lock, and not because it did much work.
 */
const maxPauseAfterFailureMs = 5_000

/**
 * Returns how long to pause after a run, so that the runs take at most a given share of the time.
 *
 * @param durationMs how long the run took, in milliseconds
 * @param maxShare the largest share of the time, from 0 to 1
 * @returns milliseconds, at most 30,000
 */
export const dutyCyclePause = (durationMs: number, maxShare: number): number =>
  Math.min(durationMs * (1 / maxShare - 1), maxDutyCyclePauseMs)

export interface PeriodicOptions {
  /** The shortest pause between two runs, in milliseconds. */
  intervalMs: number
  run(): Promise<void>
  /** Called with the error of a failed run. The next run starts anyway. */
  onError(error: Error): void
  /** The largest share of the time that runs may take, from 0 to 1. Default 1: no bound. */
  maxShare?: number
}

/** Calls `run` immediately and then at intervals. Two runs never overlap. */
export function every({ intervalMs, run, onError, maxShare = 1 }: PeriodicOptions): BackgroundTask {
  const stopping = new AbortController()
  const loop = async () => {
    while (!stopping.signal.aborted) {
      const startedAt = performance.now()
      let maxPauseMs = maxDutyCyclePauseMs
      await run().catch((error: Error) => {
        maxPauseMs = maxPauseAfterFailureMs
        onError(error)
      })
      const pauseMs = Math.min(dutyCyclePause(performance.now() - startedAt, maxShare), maxPauseMs)
      await delay(Math.max(intervalMs, pauseMs), undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const looping = loop()
  return {
    stop() {
      stopping.abort()
      return looping
    },
  }
}

/** Background work that runs on demand. */
export interface SingleFlight<Argument> extends BackgroundTask {
  /** Starts a run, unless one is in progress or the task has been stopped. */
  run(argument: Argument): void
  /** Resolves when no run is in progress. */
  idle(): Promise<void>
}

/**
 * Runs work on demand. Two runs never overlap. A call during a run has no effect, so the caller must call again as long
 * as there is work.
 *
 * @param onError called with the error of a failed run
 */
export function singleFlight<Argument = void>(
  work: (argument: Argument) => Promise<void>,
  onError: (error: Error) => void,
): SingleFlight<Argument> {
  let running: Promise<void> | undefined
  let isStopped = false
  return {
    run(argument) {
      if (isStopped) return
      running ??= work(argument)
        .catch(onError)
        .finally(() => {
          running = undefined
        })
    },
    async idle() {
      await running
    },
    async stop() {
      isStopped = true
      await running
    },
  }
}
