import type { Logger } from 'pino'

/**
 * Handles uncaught errors. A rejected promise that a handler did not await only fails that handler's attempt. After any
 * other uncaught error the process may be in an undefined state. It then stops as after SIGTERM, with exit code 1, and
 * a supervisor must restart it.
 *
 * @param failHandler fails the attempt of the handler that the error comes from; returns false when there is none
 * @returns removes the listeners
 */
export function handleUncaughtErrors(log: Logger, failHandler: (error: unknown) => boolean): () => void {
  const stop = (err: unknown) => {
    log.fatal({ err }, 'Uncaught error; the process stops')
    // A second SIGTERM would end the process without its grace period.
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
