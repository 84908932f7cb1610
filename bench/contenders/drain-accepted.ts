import { setTimeout as delay } from 'node:timers/promises'
import { v7 as uuid7 } from 'uuid'
import { prepareQueues, startBoss } from '../../src/db/boss.ts'
import { openDatabase } from '../../src/db/database.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import type { Operation } from '../../src/operation.ts'
import { createNote, performNothing, writeEffect } from '../app/operations.ts'
import { startAccepted } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { costPer, startCost } from '../core/server.ts'
import { settleDown } from './drain.ts'
import { type DrainLoad, drainedBy, untilNone } from './drain-process.ts'

/** Jobs in one transaction. */
const chunk = 1_000

/** What is left to do before they are due, in milliseconds. */
const toSpare = 250

const ended = "select ended_at as at from accepted.job where state = 'succeeded'"
const waiting = "select from pgboss.job where state < 'completed' limit 1"

/** The worker never rests; so that it finds all jobs at once, they are due at a time when all are there. */
const accepted = (name: string, operation: Operation, env: NodeJS.ProcessEnv = {}): Contender<DrainLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `drain_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createOurs(database)
    const worker = await startAccepted('worker', directory, { ...env, DATABASE_URL: databaseUrl })
    return {
      async measure({ jobs, atMostSeconds }) {
        const due = await fillInTime(databaseUrl, operation, jobs)
        const end = await startCost(server, database, [worker.pid])
        await delay(Math.max(0, due.getTime() - Date.now()))
        await untilNone(databaseUrl, waiting, atMostSeconds)
        const drained = await drainedBy(databaseUrl, ended)
        return { ...drained, ...costPer(await end(), drained.ended) }
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
export const acceptedWrite = accepted('Accepted, tuned, a row each', writeEffect, { BATCH_SIZE: '400' })

/** Puts jobs with keys in place of whatever is there, and answers when they are due: not before all are there. */
async function fillInTime(url: string, operation: Operation, jobs: number): Promise<Date> {
  for (let margin = 1_000 + jobs / 8; ; margin *= 2) {
    const due = new Date(Date.now() + margin)
    await fill(url, operation, jobs, due)
    if (due.getTime() - Date.now() > toSpare) return due
  }
}

/** Puts jobs with keys in place of whatever is there, due at once or at some time. */
export async function fill(url: string, operation: Operation, jobs: number, runAt?: Date): Promise<void> {
  const database = openDatabase({ url, poolSize: 2 })
  const boss = await startBoss(database, { supervise: false, onError: (error) => console.error(error) })
  try {
    await prepareQueues(boss, [operation])
    await database.pool.query('truncate accepted.job, accepted.processed_key, pgboss.job, effect')
    for (let from = 0; from < jobs; from += chunk) {
      const ids = Array.from({ length: Math.min(chunk, jobs - from) }, () => uuid7())
      const all = ids.map((id) => {
        return { id, operation, payload: { noteId: id }, principal: 'ann', idempotencyKey: id, runAt }
      })
      await database.kysely.transaction().execute((trx) => enqueue(boss, trx, all))
    }
    await settleDown(url)
  } finally {
    await boss.stop({ graceful: false })
    await database.close()
  }
}
