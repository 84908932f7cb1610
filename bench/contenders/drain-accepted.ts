import { setTimeout as delay } from 'node:timers/promises'
import { v7 as uuid7 } from 'uuid'
import { batchOperation } from '../../src/jobs/batch.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { insertBatch } from '../../src/jobs/enqueue-batch.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import { createNote, performNothing, writeEffect } from '../app/operations.ts'
import { costPer, startCost } from '../core/cost.ts'
import { withQueue } from '../core/our-queue.ts'
import { childrenOf } from '../core/proc.ts'
import { type AcceptedProcess, type Process, startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { analyzeAndCheckpoint } from './drain.ts'
import { type DrainLoad, drainRate, waitUntilEmpty } from './drain-process.ts'

const jobsPerTransaction = 1_000

/** The queue must be filled at least this long before the jobs are due. */
const minMarginMs = 250

const completions = "select ended_at as at from accepted.job where status = 'succeeded' and operation <> 'batch'"
const unfinished = `select from accepted_queue.job where state < 'completed'
  union all select from accepted.parent limit 1`

interface Variant extends AcceptedProcess {
  env?: NodeJS.ProcessEnv
  /** Prepares the database. Returns further variables for the workers. */
  prepare?(url: string): Promise<{ env?: NodeJS.ProcessEnv }>
  /** The number of worker processes. Default: 1. */
  workers?: number
  /** Whether the jobs are the children of one batch. Default: false. */
  isBatch?: boolean
}

/**
 * The workers run all the time. All jobs become due at the same time, after the last job has been queued. The worker
 * therefore finds all jobs at once.
 */
export const accepted = (
  name: string,
  operation: Operation,
  { env = {}, prepare, workers: workerCount = 1, isBatch = false, ...options }: Variant = {},
): Contender<DrainLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `drain_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createOurs(database)
    const more = (await prepare?.(databaseUrl))?.env
    const workers: Process[] = []
    for (let n = 0; n < workerCount; n++) {
      workers.push(await startAccepted('worker', directory, { ...env, DATABASE_URL: databaseUrl, ...more }, options))
    }
    return {
      async measure({ jobs, atMostSeconds }) {
        const due = await fillBeforeDue(databaseUrl, operation, jobs, isBatch)
        const stopCost = await startCost(
          server,
          database,
          workers.flatMap(({ pid }) => [pid, ...childrenOf(pid)]),
        )
        await delay(Math.max(0, due.getTime() - Date.now()))
        await waitUntilEmpty(databaseUrl, unfinished, atMostSeconds)
        const drained = await drainRate(databaseUrl, completions)
        return { ...drained, ...costPer(await stopCost(), drained.completed) }
      },
      async close() {
        await Promise.all(workers.map((worker) => worker.stop()))
        await server.dropDatabase(database)
      },
    }
  },
})

export const acceptedNoop = accepted('Accepted', createNote)
export const acceptedTuned = accepted('Accepted, tuned', createNote, { env: { BATCH_SIZE: '400' } })
export const acceptedPerform = accepted('Accepted, perform', performNothing)
export const acceptedWrite = accepted('Accepted, tuned, one row per job', writeEffect, { env: { BATCH_SIZE: '400' } })

export const workerProcesses = [1, 2, 4].map((processes) =>
  accepted(`--processes ${processes}`, createNote, { processes }),
)
export const performProcesses = [1, 2, 4].map((processes) =>
  accepted(`--processes ${processes}, perform`, performNothing, { processes }),
)

const fourWorkers = { workers: 4 }
export const separateJobs = accepted('separate jobs', createNote, fourWorkers)
export const batchOfJobs = accepted('one batch', createNote, { ...fourWorkers, isBatch: true })
export const separatePerform = accepted('separate jobs, perform', performNothing, fourWorkers)
export const batchPerform = accepted('one batch, perform', performNothing, { ...fourWorkers, isBatch: true })

/** Fills the queue. Returns the due time of the jobs. If the filling takes too long, retries with a later due time. */
async function fillBeforeDue(url: string, operation: Operation, jobs: number, isBatch: boolean): Promise<Date> {
  for (let marginMs = 1_000 + jobs / 8; ; marginMs *= 2) {
    const due = new Date(Date.now() + marginMs)
    await fill(url, operation, jobs, { runAt: due, isBatch })
    if (due.getTime() - Date.now() > minMarginMs) return due
  }
}

/** Deletes all jobs and enqueues new jobs with idempotency keys. They are due at `runAt`, or immediately. */
export const fill = (
  url: string,
  operation: Operation,
  jobs: number,
  { runAt, isBatch = false }: { runAt?: Date; isBatch?: boolean } = {},
): Promise<void> =>
  withQueue(url, [operation, batchOperation], async ({ database, boss }) => {
    await database.pool.query(
      'truncate accepted.job, accepted.processed_key, accepted.parent, accepted_queue.job, effect',
    )
    const all = Array.from({ length: jobs }, () => {
      const id = uuid7()
      return { id, operation, payload: { noteId: id }, principal: 'ann', idempotencyKey: id, runAt }
    })
    const transact = (work: (trx: AnyTransaction) => Promise<unknown>) =>
      database.kysely.transaction().execute((trx) => work(trx as unknown as AnyTransaction))
    if (isBatch) await transact((trx) => insertBatch(trx, { id: uuid7(), principal: 'ann', children: all }))
    else {
      for (let from = 0; from < jobs; from += jobsPerTransaction) {
        await transact((trx) => enqueue(boss, trx, all.slice(from, from + jobsPerTransaction)))
      }
    }
    await analyzeAndCheckpoint(url)
  })
