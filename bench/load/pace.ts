import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

export interface Pace {
  perSecond: number
  seconds: number
}

/**
 * Calls `send` at fixed times, whether or not earlier calls have ended (an open loop). A slow server thus builds up a
 * queue, instead of receiving fewer requests.
 *
 * @param send gets the time at which the call was due, by the clock that processes share
 * @returns the results of all calls, once all have ended
 */
export async function runAtFixedTimes<Result>(pace: Pace, send: (due: number) => Promise<Result>): Promise<Result[]> {
  const results: Promise<Result>[] = []
  const thread = new Worker(join(import.meta.dirname, 'pace-thread.ts'), { workerData: pace })
  thread.on('message', (due: number) => results.push(send(due)))
  await once(thread, 'exit')
  return Promise.all(results)
}
