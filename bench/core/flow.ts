import { setTimeout as delay } from 'node:timers/promises'
import type { Completed, Feed, FeedStopped } from '../contenders/flow-process.ts'
import type { Process } from './process.ts'

/** A flow of jobs, in which a new job is enqueued for each completed job. */
export interface Flow {
  /** The number of jobs that have completed. */
  completed(): number
  /** Waits for `seconds`. Returns how many jobs completed per second in that time. */
  rate(seconds: number): Promise<number>
  /** Stops the feeder. Returns how many jobs could not be enqueued. */
  stop(): Promise<number>
}

/** Keeps jobs in flight. The worker reports completed jobs, and the feeder enqueues the same number of new jobs. */
export function startFlow(feeder: Process, worker: Process, maxJobsInFlight: number): Flow {
  let count = 0
  worker.onMessage<Completed>(({ completed }) => {
    count += completed
    feeder.send({ completed } satisfies Completed)
  })
  feeder.send({ maxJobsInFlight } satisfies Feed)
  return {
    completed: () => count,
    async rate(seconds) {
      const [before, begun] = [count, performance.now()]
      await Promise.race([delay(seconds * 1000), feeder.unexpectedExit, worker.unexpectedExit])
      return (count - before) / ((performance.now() - begun) / 1000)
    },
    async stop() {
      feeder.send({ maxJobsInFlight: 0 } satisfies Feed)
      return (await feeder.receive<FeedStopped>()).failed
    },
  }
}
