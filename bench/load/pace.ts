import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

export interface Pace {
  perSecond: number
  seconds: number
}

/**
 * Calls `send` at fixed times, even if earlier calls have not ended (an open loop). If the server is slow, requests
 * wait in a queue. The server does not receive fewer requests.
 *
 * @param send gets the due time of the call, as a value of `now` in clock.ts
 * @returns the results of all calls, after all calls have ended
 */
export async function runAtFixedTimes<Result>(pace: Pace, send: (due: number) => Promise<Result>): Promise<Result[]> {
  const results: Promise<Result>[] = []
  const thread = new Worker(join(import.meta.dirname, 'pace-thread.ts'), { workerData: pace })
  thread.on('message', (due: number) => results.push(send(due)))
  await once(thread, 'exit')
  return Promise.all(results)
}
