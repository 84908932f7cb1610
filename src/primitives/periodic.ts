import { setTimeout as delay } from 'node:timers/promises'

/** Background work that can be stopped. */
export interface BackgroundTask {
  /** Stops the task: no further run starts. Resolves when the current run has ended. */
  stop(): Promise<void>
}

/**
 * The default of the upper bound of {@link dutyCyclePause}, in milliseconds. A slow network can make a run take long
 * although it did little work. This bound keeps the pause after such a run short.
 */
const defaultMaxPauseMs = 5_000

/**
 * Returns how long to pause after a run, so that the runs take at most a given share of the time.
 *
 * @param durationMs how long the run took, in milliseconds
 * @param maxShare the largest share of the time, from 0 to 1
 * @param maxPauseMs the longest pause, in milliseconds. Default 5,000
 * @returns milliseconds
 */
export const dutyCyclePause = (durationMs: number, maxShare: number, maxPauseMs: number = defaultMaxPauseMs): number =>
  Math.min(durationMs * (1 / maxShare - 1), maxPauseMs)

export interface PeriodicOptions {
  /** The shortest pause between two runs, in milliseconds. */
  intervalMs: number
  run(): Promise<void>
  /** Called with the error of a failed run. The next run starts anyway. */
  onError(error: Error): void
  /** The largest share of the time that runs may take, from 0 to 1. Default 1: no bound. */
  maxShare?: number
  /** The longest pause that `maxShare` may cause, in milliseconds. Default 5,000. */
  maxPauseMs?: number
}

/** Calls `run` immediately and then at intervals. Two runs never overlap. */
export function every({ intervalMs, run, onError, maxShare = 1, maxPauseMs }: PeriodicOptions): BackgroundTask {
  const stopping = new AbortController()
  const loop = async () => {
    let lastMs = 0
    while (!stopping.signal.aborted) {
      const startedAt = performance.now()
      await run().catch(onError)
      const durationMs = performance.now() - startedAt
      // A single slow run may only have waited, for example for a lock.
      const pauseMs = dutyCyclePause(Math.min(durationMs, lastMs), maxShare, maxPauseMs)
      lastMs = durationMs
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
