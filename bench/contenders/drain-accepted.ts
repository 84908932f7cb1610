import { setTimeout as delay } from 'node:timers/promises'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import type { Operation } from '../../src/operation.ts'
import { createNote, performNothing, writeEffect } from '../app/operations.ts'
import { costPer, startCost } from '../core/cost.ts'
import { withQueue } from '../core/our-queue.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { analyzeAndCheckpoint } from './drain.ts'
import { type DrainLoad, drainRate, waitUntilEmpty } from './drain-process.ts'

const jobsPerTransaction = 1_000

/** The queue must be filled at least this long before the jobs are due. */
const minMarginMs = 250

const completions = "select ended_at as at from accepted.job where status = 'succeeded'"
const unfinished = "select from accepted_queue.job where state < 'completed' limit 1"

/**
 * The worker runs all the time. All jobs become due at the same time, after the last job has been queued. The worker
 * therefore finds all jobs at once.
 */
const accepted = (name: string, operation: Operation, env: NodeJS.ProcessEnv = {}): Contender<DrainLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `drain_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createOurs(database)
    const worker = await startAccepted('worker', directory, { ...env, DATABASE_URL: databaseUrl })
    return {
      async measure({ jobs, atMostSeconds }) {
        const due = await fillBeforeDue(databaseUrl, operation, jobs)
        const stopCost = await startCost(server, database, [worker.pid])
        await delay(Math.max(0, due.getTime() - Date.now()))
        await waitUntilEmpty(databaseUrl, unfinished, atMostSeconds)
        const drained = await drainRate(databaseUrl, completions)
        return { ...drained, ...costPer(await stopCost(), drained.completed) }
      },
      async close() {
        await worker.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

export const acceptedNoop = accepted('Accepted', createNote)
export const acceptedTuned = accepted('Accepted, tuned', createNote, { BATCH_SIZE: '400' })
export const acceptedPerform = accepted('Accepted, perform', performNothing)
export const acceptedWrite = accepted('Accepted, tuned, one row per job', writeEffect, { BATCH_SIZE: '400' })

/** Fills the queue. Returns the due time of the jobs. If the filling takes too long, retries with a later due time. */
async function fillBeforeDue(url: string, operation: Operation, jobs: number): Promise<Date> {
  for (let marginMs = 1_000 + jobs / 8; ; marginMs *= 2) {
    const due = new Date(Date.now() + marginMs)
    await fill(url, operation, jobs, due)
    if (due.getTime() - Date.now() > minMarginMs) return due
  }
}

/** Deletes all jobs and enqueues new jobs with idempotency keys. They are due at `runAt`, or immediately. */
export const fill = (url: string, operation: Operation, jobs: number, runAt?: Date): Promise<void> =>
  withQueue(url, [operation], async ({ database, boss }) => {
    await database.pool.query('truncate accepted.job, accepted.processed_key, accepted_queue.job, effect')
    for (let from = 0; from < jobs; from += jobsPerTransaction) {
      const ids = Array.from({ length: Math.min(jobsPerTransaction, jobs - from) }, () => uuid7())
      const all = ids.map((id) => {
        return { id, operation, payload: { noteId: id }, principal: 'ann', idempotencyKey: id, runAt }
      })
      await database.kysely.transaction().execute((trx) => enqueue(boss, trx, all))
    }
    await analyzeAndCheckpoint(url)
  })
