import { setTimeout as delay } from 'node:timers/promises'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import type { Operation } from '../../src/operation.ts'
import { waitByAge, waitInTurn } from '../app/operations.ts'
import { withQueue } from '../core/our-queue.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import type { Sample } from '../core/series.ts'
import { query } from '../core/server.ts'
import { analyzeAndCheckpoint } from './drain.ts'
import { waitUntilEmpty } from './drain-process.ts'

export interface TurnsLoad {
  /** Jobs of the principal with the long backlog. */
  heavyJobs: number
  /** Number of other principals. Each has one job. */
  lightPrincipals: number
  atMostSeconds: number
}

const jobsPerTransaction = 1_000

interface Variant {
  operation: Operation
  /** Whether the principal with the long backlog has its jobs. Default: true. */
  hasHeavy?: boolean
}

/**
 * One worker, and jobs that wait in the queue when the worker begins. The principal with the long backlog has the oldest
 * jobs.
 */
const contender = (name: string, { operation, hasHeavy = true }: Variant): Contender<TurnsLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `turns_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createOurs(database)
    const worker = await startAccepted('worker', directory, { DATABASE_URL: databaseUrl })
    return {
      async measure({ heavyJobs, lightPrincipals, atMostSeconds }) {
        await query(databaseUrl, 'select accepted.pause($1)', [operation.name])
        // A worker needs up to a second to notice the pause. None of its claims may be in progress.
        await delay(pauseMs)
        await fill(databaseUrl, operation, { heavyJobs: hasHeavy ? heavyJobs : 0, lightPrincipals })
        await query(databaseUrl, 'select accepted.resume($1)', [operation.name])
        await waitUntilEmpty(databaseUrl, "select from accepted_queue.job where state < 'completed'", atMostSeconds)
        return readTimes(databaseUrl)
      },
      async close() {
        await worker.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

const pauseMs = 1_500

export const inTurn = contender('in turn', { operation: waitInTurn })
export const byAge = contender('oldest first', { operation: waitByAge })
export const alone = contender('without the backlog', { operation: waitInTurn, hasHeavy: false })

const heavy = 'heavy'

/** Deletes all jobs, and enqueues first the jobs of the long backlog and then those of the other principals. */
const fill = (
  url: string,
  operation: Operation,
  { heavyJobs, lightPrincipals }: Pick<TurnsLoad, 'heavyJobs' | 'lightPrincipals'>,
): Promise<void> =>
  withQueue(url, [operation], async ({ database, boss }) => {
    await database.pool.query('truncate accepted.job, accepted.processed_key, accepted_queue.job')
    const newJob = (principal: string) => {
      const id = uuid7()
      return { id, operation, payload: { noteId: id }, principal }
    }
    const all = [
      ...Array.from({ length: heavyJobs }, () => newJob(heavy)),
      ...Array.from({ length: lightPrincipals }, (_, number) => newJob(`light ${number}`)),
    ]
    for (let from = 0; from < all.length; from += jobsPerTransaction) {
      await database.kysely
        .transaction()
        .execute((trx) => enqueue(boss, trx, all.slice(from, from + jobsPerTransaction)))
    }
    await analyzeAndCheckpoint(url)
  })

/** Times count from the first start of a job. */
async function readTimes(url: string): Promise<Sample> {
  const [row] = await query<{ median: number; last: number; per_second: number; completed: number }>(
    url,
    `select
      1000 * percentile_cont(0.5) within group (order by seconds) filter (where principal <> $1) as median,
      1000 * max(seconds) filter (where principal <> $1) as last,
      (count(*) / max(seconds))::float8 as per_second, count(*)::float8 as completed
    from (
      select principal, extract(epoch from ended_at - min(started_at) over ())::float8 as seconds
      from accepted.job where status = 'succeeded'
    ) as job`,
    [heavy],
  )
  if (!row?.completed) throw new Error('No job completed')
  return { median: row.median, last: row.last, perSecond: row.per_second, completed: row.completed }
}
