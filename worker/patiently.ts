import { setTimeout as delay } from 'node:timers/promises'
import { errorCode, isContention, isOutage, sqlstate } from '../src/db/sqlstate.ts'
import type { Lane } from './lane.ts'

const mostContentions = 10
const longestPause = 1_000

/**
 * Runs what may run again after a rollback: until Postgres is back, and some times when it lost a race.
 */
export async function patiently<Result>(
  { operation, metrics }: Lane,
  { stopping }: { stopping: AbortSignal },
  work: () => Promise<Result>,
  contentions = mostContentions,
): Promise<Result> {
  for (let round = 0, outages = 0; ; round++) {
    try {
      return await work()
    } catch (error) {
      // A disk may be full for this job alone, which is then to make room for others.
      const isFull = errorCode(error) === sqlstate.diskFull
      const isAway = isOutage(error) && !isFull
      const again = isAway || ((isContention(error) || isFull) && round - outages < contentions)
      if (!again || stopping.aborted) throw error
      if (isAway) outages += 1
      metrics.countRetry(operation.name, isContention(error) ? 'contention' : 'outage')
      await delay(Math.random() * Math.min(20 * 2 ** round, longestPause), undefined, { signal: stopping }).catch(
        () => {},
      )
    }
  }
}
