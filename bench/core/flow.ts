import { setTimeout as delay } from 'node:timers/promises'
import type { Ended, Fed, Feed } from '../contenders/flow-process.ts'
import type { Process } from './process.ts'

/** Jobs that come as fast as they end. */
export interface Flow {
  /** How many have ended. */
  ended(): number
  /** Waits, and answers how many ended a second meanwhile. */
  rate(seconds: number): Promise<number>
  /** Nothing comes any more; answers how many were refused. */
  stop(): Promise<number>
}

/** Has so many jobs under way all the time, by a process that feeds and one that works and tells what has ended. */
export function startFlow(feeder: Process, worker: Process, mostUnderWay: number): Flow {
  let count = 0
  worker.onMessage<Ended>(({ ended }) => {
    count += ended
    feeder.send({ ended } satisfies Ended)
  })
  feeder.send({ mostUnderWay } satisfies Feed)
  return {
    ended: () => count,
    async rate(seconds) {
      const [before, begun] = [count, performance.now()]
      await Promise.race([delay(seconds * 1000), feeder.alone, worker.alone])
      return (count - before) / ((performance.now() - begun) / 1000)
    },
    async stop() {
      feeder.send({ mostUnderWay: 0 } satisfies Feed)
      return (await feeder.hear<Fed>()).failed
    },
  }
}
