import { exitGraceSeconds } from '../settings.ts'
import { signals, stopExitingOnSignal } from './exit-on-signal.ts'

/**
 * A second signal ends the process immediately, but only if more than this time has passed since the first signal. One
 * Ctrl-C may cause two signals: one from the terminal and one from npm.
 */
const minExitDelayMs = 100

/**
 * Resolves when the process must stop: on SIGINT, SIGTERM or SIGHUP, or when the IPC channel to the parent process closes.
 * Call it when there is something to stop; until then, a signal ends the process.
 *
 * @param onSecondSignal called for a later signal
 */
export function waitForSignal(onSecondSignal: () => void): Promise<void> {
  return new Promise((resolve) => {
    let firstSignalAt: number | undefined
    const onSignal = () => {
      firstSignalAt ??= performance.now()
      if (performance.now() - firstSignalAt > minExitDelayMs) onSecondSignal()
      resolve()
    }
    for (const signal of signals) process.on(signal, onSignal)
    stopExitingOnSignal()
    // A closed IPC channel does not count as the first signal.
    process.once('disconnect', resolve)
  })
}

/**
 * Resolves when the process must stop, like {@link waitForSignal}. After that, a second signal ends the process with exit
 * code 1. If the process still runs 5 seconds after the grace period, it also exits with code 1.
 *
 * @param graceSeconds how long running requests and jobs may continue
 * @param requested another reason to stop: resolves when the process must stop
 */
export async function waitForShutdown(graceSeconds: number, requested?: Promise<void>): Promise<void> {
  const signaled = waitForSignal(() => process.exit(1))
  await (requested ? Promise.race([signaled, requested]) : signaled)
  setTimeout(exitNow, (graceSeconds + exitGraceSeconds) * 1000, graceSeconds).unref()
}

function exitNow(graceSeconds: number): never {
  console.error(
    `error: The process did not stop within GRACE_SECONDS=${graceSeconds} plus ${exitGraceSeconds} s; it exits now.`,
  )
  process.exit(1)
}
