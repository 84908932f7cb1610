import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { beginTransaction } from '../../support/database.ts'
import { openJobs, writeEffects } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const retry = { limit: 1, delaySeconds: 0, backoff: false }

/** A payload that does not match its schema. SQL or another release of the app may have written the payload. */
const invalid = { word: 7 } as unknown as { word: string }

t.test('each job of a batch gets its own result, and a wrong number of results fails the batch', async (t) => {
  const shout = defineOperation({ name: 'word.shout', input: Word, result: Type.String(), retry: { limit: 0 } })
  const jobs = await openJobs(t, [shout])
  const ids = await Promise.all(['a', 'b', 'c'].map((word) => jobs.add(shout, { word })))
  const broken = await jobs.add(shout, { word: 'broken' }, { priority: -1 })
  await jobs.work(
    handlersFor(shout, {
      settle: async (_trx, batch) =>
        batch.flatMap(({ payload: { word } }) => (word === 'broken' ? [] : [word.toUpperCase()])),
    }),
  )
  t.same(await Promise.all(ids.map(async (id) => (await jobs.ended(id)).result)), ['A', 'B', 'C'])
  t.match(await jobs.ended(broken), { status: 'failed', error: { message: /must return one result for each job/ } })
})

t.test(
  'the result of settle replaces the result of perform, and is stored if the operation has a result schema',
  async (t) => {
    const kept = defineOperation({ name: 'word.kept', input: Word, result: Type.String() })
    const changed = defineOperation({ name: 'word.changed', input: Word, result: Type.String() })
    const none = defineOperation({ name: 'word.none', input: Word })
    const record = { kept, changed, none }
    const jobs = await openJobs(t, Object.values(record))
    const ids = [
      await jobs.add(kept, { word: 'a' }),
      await jobs.add(changed, { word: 'b' }),
      await jobs.add(none, { word: 'c' }),
    ]
    const resultsInSettle: unknown[] = []
    await jobs.work(
      defineHandlers(record, {
        'word.kept': { perform: async ({ payload }) => payload.word },
        'word.changed': {
          perform: async ({ payload }) => payload.word,
          settle: async (_trx, batch) => batch.map(({ result }) => `${result}!`),
        },
        'word.none': {
          perform: async ({ payload }) => payload.word,
          settle: async (_trx, batch) => void resultsInSettle.push(...batch.map(({ result }) => result)),
        },
      }),
    )
    t.same(await Promise.all(ids.map(async (id) => (await jobs.ended(id)).result)), ['a', 'b!', null])
    t.same(resultsInSettle, ['c'])
  },
)

t.test('perform and settle can both set the resource', async (t) => {
  const find = defineOperation({ name: 'word.find', input: Word })
  const jobs = await openJobs(t, [find])
  const [a, b] = [await jobs.add(find, { word: 'a' }), await jobs.add(find, { word: 'b' })]
  await jobs.work(
    handlersFor(find, {
      perform: async (job) => job.setResource(`/performed/${job.payload.word}`),
      settle: async (_trx, batch) => {
        for (const job of batch) if (job.payload.word === 'b') job.setResource('/settled/b')
      },
    }),
  )
  t.equal((await jobs.ended(a)).resource, '/performed/a')
  t.equal((await jobs.ended(b)).resource, '/settled/b')
})

t.test('a job that settle enqueues is committed or rolled back together with the settle', async (t) => {
  const parent = defineOperation({ name: 'word.parent', input: Word, retry: { limit: 0 } })
  const child = defineOperation({ name: 'word.write', input: Word })
  const record = { parent, child }
  const jobs = await openJobs(t, Object.values(record))
  const good = await jobs.add(parent, { word: 'good' })
  const bad = await jobs.add(parent, { word: 'bad' })
  await jobs.work(
    defineHandlers(record, {
      'word.parent': {
        settle: async (trx, batch) => {
          for (const job of batch) await job.enqueue(trx, child, job.payload, { key: job.id })
          if (batch.some(({ payload }) => payload.word === 'bad')) throw new Error('bad')
        },
      },
      'word.write': { settle: writeEffects },
    }),
  )
  t.match(await jobs.ended(bad), { status: 'failed' })
  t.match(await jobs.ended(good), { status: 'succeeded' })
  await until(async () => (await jobs.query('select from effect')).length > 0)
  const enqueued = await jobs.query(
    "select principal, idempotency_key from accepted.job where operation = 'word.write'",
  )
  t.same(enqueued, [{ principal: 'ann', idempotency_key: good }])
})

t.test('a settle that waits for a lock fails at the timeout of the attempt', async (t) => {
  const hasty = defineOperation({ name: 'word.hasty', input: Word, timeoutSeconds: 1, retry: { limit: 0 } })
  const jobs = await openJobs(t, [hasty])
  await jobs.query("insert into effect values (gen_random_uuid(), 'locked')")
  await beginTransaction(t, jobs.database, "update effect set word = 'held'")
  const id = await jobs.add(hasty, { word: 'x' })
  await jobs.work(
    handlersFor(hasty, {
      settle: async (trx) => {
        await trx.updateTable('effect').set({ word: 'x' }).execute()
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'failed', error: { code: 'attempt-timeout' } })
})

t.test('in a batch, an invalid payload fails only its own job, before the handler gets the job', async (t) => {
  const write = defineOperation({ name: 'word.write', input: Word, retry })
  const jobs = await openJobs(t, [write])
  const good = await Promise.all(['a', 'b', 'c', 'd'].map((word) => jobs.add(write, { word })))
  const bad = await jobs.add(write, invalid)
  const settled: unknown[] = []
  await jobs.work(
    handlersFor(write, {
      settle: async (_trx, batch) => void settled.push(...batch.map(({ payload }) => payload.word)),
    }),
  )
  t.match(await jobs.ended(bad), {
    status: 'failed',
    attempt: 2,
    error: {
      code: 'invalid-payload',
      message: "The payload does not match the schema of 'word.write': /word must be string",
    },
  })
  for (const id of good) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
  t.same(settled.toSorted(), ['a', 'b', 'c', 'd'])
})

t.test('an invalid result fails only its own job, and the writes of that job are rolled back', async (t) => {
  const result = Type.Object({ length: Type.Integer() })
  const settled = defineOperation({ name: 'word.settle', input: Word, result, retry })
  const performed = defineOperation({ name: 'word.perform', input: Word, result, retry: { limit: 0 } })
  const jobs = await openJobs(t, [settled, performed])
  const words = ['a', 'bb', 'odd', 'ccc']
  const settling = await Promise.all(words.map((word) => jobs.add(settled, { word })))
  const performing = await Promise.all(words.map((word) => jobs.add(performed, { word })))
  const measure = (word: string) => ({ length: word === 'odd' ? 0.5 : word.length })
  await jobs.work(
    defineHandlers(
      { settled, performed },
      {
        'word.settle': {
          settle: async (trx, batch) => {
            await writeEffects(trx, batch)
            return batch.map(({ payload }) => measure(payload.word))
          },
        },
        'word.perform': { perform: async ({ payload }) => measure(payload.word) },
      },
    ),
  )
  for (const ids of [settling, performing]) {
    for (const [index, id] of ids.entries()) {
      const row = await jobs.ended(id)
      if (words[index] === 'odd') {
        t.match(row, { status: 'failed', error: { code: 'invalid-result', message: /: \/length must be integer$/ } })
      } else {
        t.match(row, { status: 'succeeded', attempt: 1, result: { length: words[index]?.length } })
      }
    }
  }
  const effects = await jobs.query('select word from effect order by word')
  t.same(
    effects.map(({ word }) => word),
    ['a', 'bb', 'ccc'],
  )
})

t.test('an attempt that enqueues a follow-up job with an invalid payload fails', async (t) => {
  const next = defineOperation({ name: 'word.next', input: Word })
  const first = defineOperation({ name: 'word.first', input: Word, retry: { limit: 0 } })
  const jobs = await openJobs(t, [first, next])
  const id = await jobs.add(first, { word: 'a' })
  await jobs.work(
    defineHandlers(
      { first, next },
      {
        'word.first': { settle: async (trx, [job]) => void (await job?.enqueue(trx, next, invalid)) },
        'word.next': { settle: async () => {} },
      },
    ),
  )
  t.match(await jobs.ended(id), {
    status: 'failed',
    error: {
      code: 'handler-error',
      message: "The payload does not match the schema of 'word.next': /word must be string",
    },
  })
  t.equal((await jobs.query('select from accepted.job')).length, 1)
})
