import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

/** How often, and for how long. */
export interface Pace {
  perSecond: number
  seconds: number
}

/**
 * Calls at fixed times, whether or not what was called before has ended (an open loop): who is slow meets those who
 * wait, instead of being asked less often.
 *
 * @param send gets the time it should have been called at, by the clock that processes share
 * @returns what the calls came to, once all have ended
 */
export async function atFixedTimes<Result>(pace: Pace, send: (due: number) => Promise<Result>): Promise<Result[]> {
  const results: Promise<Result>[] = []
  const thread = new Worker(join(import.meta.dirname, 'pace-thread.ts'), { workerData: pace })
  thread.on('message', (due: number) => results.push(send(due)))
  await once(thread, 'exit')
  return Promise.all(results)
}
