import { setTimeout as delay } from 'node:timers/promises'
import { defineHandlers, JobFailed } from 'accepted/worker'
import type { Kysely, Transaction } from 'kysely'
import type { Tables } from './operations.ts'
import * as operations from './operations.ts'

export default defineHandlers(operations, ({ db }: { db: Kysely<Tables> }) => {
  const makeReady = async (trx: Transaction<Tables>, jobs: readonly { payload: { id: string } }[]) => {
    const ids = jobs.map(({ payload }) => payload.id)
    await trx.updateTable('document').set({ state: 'ready' }).where('id', 'in', ids).execute()
  }

  return {
    'document.create': { settle: makeReady },
    'document.replace': { settle: makeReady },
    'document.remove': {
      settle: async (trx: Transaction<Tables>, jobs) => {
        const ids = jobs.map(({ payload }) => payload.id)
        await trx.deleteFrom('document').where('id', 'in', ids).execute()
      },
    },
    'word.count': { perform: async ({ payload }) => ({ words: payload.text.split(/\s+/).length }) },
    'text.check': {
      perform: async ({ payload }) => {
        throw new JobFailed('text-refused', payload.text, { status: 422, details: [{ pointer: '/text' }] })
      },
    },
    'document.render': {
      perform: async (job) => {
        let lastProgress = ''
        for (;;) {
          const [direction] = await db
            .selectFrom('direction')
            .selectAll()
            .where('name', '=', job.payload.name)
            .execute()
          if (direction?.ending === 'succeed') return
          if (direction?.ending === 'fail') throw new JobFailed('rendering-failed', direction.message)
          if (direction && lastProgress !== JSON.stringify(direction)) {
            lastProgress = JSON.stringify(direction)
            job.progress(direction.percent, direction.message)
          }
          await delay(20, undefined, { signal: job.signal })
        }
      },
    },
    'seat.reserve': { settle: async () => {} },
  }
})
