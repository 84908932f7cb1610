import type { Logger } from 'pino'

/**
 * Handles uncaught errors. If a handler did not await a promise and the promise rejects, only the attempt of this
 * handler fails. After any other uncaught error, the process may be in an undefined state. It then stops as it does
 * after SIGTERM, but with exit code 1. A supervisor must restart it.
 *
 * @param failHandler fails the attempt of the handler that caused the error; returns false if no handler caused it
 * @returns a function that removes the listeners
 */
export function handleUncaughtErrors(log: Logger, failHandler: (error: unknown) => boolean): () => void {
  const stop = (err: unknown) => {
    log.fatal({ err }, 'Uncaught error; stopping the process')
    // The process is already stopping. A second SIGTERM would end it before its grace period is over.
    if (process.exitCode === 1) return
    process.exitCode = 1
    process.kill(process.pid, 'SIGTERM')
  }
  const onRejection = (error: unknown) => {
    if (!failHandler(error)) stop(error)
  }
  const onException = (error: Error) => {
    failHandler(error)
    stop(error)
  }
  process.on('unhandledRejection', onRejection)
  process.on('uncaughtException', onException)
  return () => {
    process.off('unhandledRejection', onRejection)
    process.off('uncaughtException', onException)
  }
}
