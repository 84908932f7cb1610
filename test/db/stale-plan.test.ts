import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import type { Kysely, Transaction } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { post } from '../support/client.ts'
import { openJobs } from '../support/jobs.ts'

interface Tables {
  said: { word: string }
}

const Word = Type.Object({ word: Type.String() })
const settled = defineOperation({ name: 'word.settle', input: Word, retry: { limit: 0 } })
const performed = defineOperation({ name: 'word.perform', input: Word, retry: { limit: 0 } })

const say = (db: Kysely<Tables> | Transaction<Tables>, word: string) =>
  db.insertInto('said').values({ word }).returningAll().execute()

t.test('a column that DDL adds under `returning *` costs a job no attempt', async (t) => {
  const jobs = await openJobs(t, [settled, performed])
  await jobs.query('create table said (word text)')
  await jobs.work(
    defineHandlers({ settled, performed }, ({ db }) => ({
      'word.settle': {
        settle: async (trx: Transaction<Tables>, [job]) => void (await say(trx, job?.payload.word ?? '')),
      },
      'word.perform': {
        concurrency: 1,
        // A transaction of the handler's own cannot be run again by us, so the job is.
        perform: async ({ payload }) =>
          void (await (db as Kysely<Tables>).transaction().execute((trx) => say(trx, payload.word))),
      },
    })),
  )
  for (const operation of [settled, performed]) {
    const run = async () => jobs.ended(await jobs.add(operation, { word: operation.name }))
    for (let use = 0; use < 3; use++) t.match(await run(), { status: 'succeeded' })
    await jobs.query(`alter table said add "${operation.name}" text`)
    const job = await run()
    t.match(job, { status: 'succeeded', error: null }, operation.name)
    t.same(await jobs.query('select from accepted.attempt where job_id = $1', [job.id]), [], 'no attempt failed')
  }
  t.match(await jobs.query('select count(*)::int from said'), [{ count: 8 }], 'each word is said once')
})

t.test('a column that DDL adds under `returning *` of an accept does not fail the request', async (t) => {
  const operation = defineOperation({
    name: 'word.accept',
    route: { method: 'POST', url: '/words' },
    input: Word,
    accept: async (trx: Transaction<Tables>, entries) => {
      for (const { input } of entries) await say(trx, input.word)
      return entries.map(({ input }) => ({ payload: input }))
    },
  })
  const { url, database } = await serve(t, { operations: { operation } })
  await database.pool.query('create table said (word text)')
  for (let use = 0; use < 3; use++) t.equal((await post(`${url}/words`, { word: 'x' })).status, 202)
  await database.pool.query('alter table said add more text')
  t.equal((await post(`${url}/words`, { word: 'x' })).status, 202)
  t.match((await database.pool.query('select count(*)::int from said')).rows, [{ count: 4 }])
})
