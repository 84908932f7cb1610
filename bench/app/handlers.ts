import { setTimeout as delay } from 'node:timers/promises'
import { defineHandlers } from 'accepted/worker'
import type { Transaction } from 'kysely'
import { reportCompleted } from '../contenders/flow-process.ts'
import { reportStarted } from '../contenders/pickup-process.ts'
import type { Tables } from './operations.ts'
import * as operations from './operations.ts'

const batchSize = Number(process.env.BATCH_SIZE ?? 100)

const wait = () => delay(operations.waitMs)

export default defineHandlers(operations, {
  'note.create': { settle: async () => {}, batchSize },
  'nothing.perform': { perform: async () => {}, concurrency: 100 },
  'wait.turn': { perform: wait },
  'wait.age': { perform: wait },
  'counted.create': { settle: async (_trx, jobs) => reportCompleted(jobs.length) },
  'pickup.settle': {
    settle: async (_trx, jobs) => {
      for (const { payload } of jobs) reportStarted(payload.sequence)
    },
  },
  'pickup.perform': { perform: async ({ payload }) => reportStarted(payload.sequence) },
  'effect.write': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      await trx
        .insertInto('effect')
        .values(jobs.map(({ id }) => ({ job_id: id })))
        .execute()
    },
    batchSize,
  },
})
