import type { Logger } from 'pino'

/**
 * Sees to errors that nobody caught. A promise that a handler did not wait for is charged to its job, and that is that. An
 * exception may have interrupted anything, so the process stops as if it was asked to, ends with exit code 1, and is to
 * be started anew; the job whose it is is charged, the others are ended or handed back.
 *
 * @param charge charges the handler whose error it is, and answers whether there was one
 * @returns takes the listeners off again
 */
export function watchUncaught(log: Logger, charge: (error: unknown) => boolean): () => void {
  const stop = (err: unknown) => {
    log.fatal({ err }, 'An error was left uncaught; the process stops')
    // Asked twice, it would not even end what it has begun.
    if (process.exitCode === 1) return
    process.exitCode = 1
    process.kill(process.pid, 'SIGTERM')
  }
  const onRejection = (error: unknown) => {
    if (!charge(error)) stop(error)
  }
  const onException = (error: Error) => {
    charge(error)
    stop(error)
  }
  process.on('unhandledRejection', onRejection)
  process.on('uncaughtException', onException)
  return () => {
    process.off('unhandledRejection', onRejection)
    process.off('uncaughtException', onException)
  }
}
