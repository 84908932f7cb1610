import { setTimeout as delay } from 'node:timers/promises'
import type { Process } from './process.ts'

/** A process that is started again whenever it ends, as systemd does with `Restart=always`. */
export interface Supervised {
  /** Sends SIGKILL to the current process. Does nothing while no process runs. */
  kill(): void
  /** How often the process has ended by itself. */
  exits(): number
  /** Stops the process for good. */
  stop(): Promise<void>
}

/** The time between the end of a process and its next start. */
export const restartDelayMs = 1_000

/**
 * Starts a process and supervises it.
 *
 * @param start resolves when the process is ready, and rejects if it ends before
 */
export async function supervise(start: () => Promise<Process>): Promise<Supervised> {
  let current: Process | undefined = await start()
  let exits = 0
  let isKilled = false
  let isStopping = false
  const stopped = Promise.withResolvers<void>()
  const keepRunning = async () => {
    while (!isStopping) {
      await current?.unexpectedExit.catch(() => {})
      current = undefined
      if (isStopping) break
      if (!isKilled) exits++
      isKilled = false
      await Promise.race([delay(restartDelayMs), stopped.promise])
      if (!isStopping) current = await start().catch(() => undefined)
    }
  }
  const ended = keepRunning()
  return {
    kill() {
      if (!current) return
      isKilled = true
      process.kill(current.pid, 'SIGKILL')
    },
    exits: () => exits,
    async stop() {
      isStopping = true
      stopped.resolve()
      await current?.stop()
      await ended
      // A start that was in progress has ended meanwhile.
      await current?.stop()
    },
  }
}
