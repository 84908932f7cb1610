import type { ClaimLoop } from '../execution/claim-loop.ts'
import type { MaintenanceTasks } from './tasks.ts'

/** Controls when a worker works. For the test kit: any other worker works all the time. */
export interface DueRunner {
  /** Works until nothing is due: no job, no schedule and no end that is decided. Then the worker goes on working. */
  run(): Promise<void>
  /** Starts nothing new until {@link run} is called. Resolves when no job is running. */
  pause(): Promise<void>
}

export function createDueRunner(loops: readonly ClaimLoop[], maintenance: MaintenanceTasks): DueRunner {
  const countRuns = () => loops.reduce((sum, loop) => sum + loop.runs, 0)
  return {
    async run() {
      maintenance.resume()
      for (const loop of loops) loop.resume()
      for (let isDone = false; !isDone; ) {
        // Jobs may be due that are older than those of the last claim: after a retry, or because a test has moved their times.
        for (const loop of loops) loop.wakeToRescan()
        await Promise.all(loops.map((loop) => loop.untilSettled()))
        const runs = countRuns()
        const hasFound = await maintenance.pollNow()
        // A job that has run during the poll may have enqueued another one, which the poll did not see.
        isDone = !hasFound && countRuns() === runs && loops.every((loop) => loop.isSettled())
      }
    },
    async pause() {
      maintenance.pause()
      await Promise.all(loops.map((loop) => loop.pause()))
    },
  }
}
