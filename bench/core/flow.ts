import { setTimeout as delay } from 'node:timers/promises'
import type { Completed, Feed, FeedStopped } from '../contenders/flow-process.ts'
import type { Process } from './process.ts'

/** Jobs that are enqueued as fast as they complete. */
export interface Flow {
  /** The number of jobs that have completed. */
  completed(): number
  /** Waits, and returns how many jobs completed per second meanwhile. */
  rate(seconds: number): Promise<number>
  /** Stops enqueueing; returns how many jobs could not be enqueued. */
  stop(): Promise<number>
}

/** Keeps a number of jobs in flight: the worker reports what has completed, and the feeder enqueues as many again. */
export function startFlow(feeder: Process, worker: Process, maxInFlight: number): Flow {
  let count = 0
  worker.onMessage<Completed>(({ completed }) => {
    count += completed
    feeder.send({ completed } satisfies Completed)
  })
  feeder.send({ maxInFlight } satisfies Feed)
  return {
    completed: () => count,
    async rate(seconds) {
      const [before, begun] = [count, performance.now()]
      await Promise.race([delay(seconds * 1000), feeder.unexpectedExit, worker.unexpectedExit])
      return (count - before) / ((performance.now() - begun) / 1000)
    },
    async stop() {
      feeder.send({ maxInFlight: 0 } satisfies Feed)
      return (await feeder.receive<FeedStopped>()).failed
    },
  }
}
