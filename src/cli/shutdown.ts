import { exitGraceSeconds } from '../config.ts'

/** npm and the terminal may both send the same Ctrl-C. Signals this close together count once. */
const sameSignalMs = 100

/**
 * Resolves when the process must stop: on SIGINT or SIGTERM, or when the IPC channel to the parent process closes.
 * After that, the process exits with code 1 on a second signal, or 5 seconds after the grace period if something still
 * runs.
 *
 * @param graceSeconds how long running requests and jobs may continue
 */
export function waitForShutdown(graceSeconds: number): Promise<void> {
  return new Promise((resolve) => {
    const beginShutdown = () => {
      setTimeout(exitNow, (graceSeconds + exitGraceSeconds) * 1000, graceSeconds).unref()
      resolve()
    }
    let firstSignalAt: number | undefined
    const onSignal = () => {
      firstSignalAt ??= performance.now()
      if (performance.now() - firstSignalAt > sameSignalMs) process.exit(1)
      beginShutdown()
    }
    process.on('SIGINT', onSignal)
    process.on('SIGTERM', onSignal)
    // Does not count as a signal.
    process.once('disconnect', beginShutdown)
  })
}

function exitNow(graceSeconds: number): never {
  console.error(
    `error: The process did not stop within GRACE_SECONDS=${graceSeconds} and ${exitGraceSeconds} s more; it exits now.`,
  )
  process.exit(1)
}
