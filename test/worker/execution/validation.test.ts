import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../../support/jobs.ts'

const retry = { limit: 1, delaySeconds: 0, backoff: false }
const Word = Type.Object({ word: Type.String() })
/** An invalid payload, as SQL or another release may enqueue it. */
const invalid = { word: 7 } as unknown as { word: string }

t.test('in a batch, an invalid payload fails only its job, before the handler gets it', async (t) => {
  const operation = defineOperation({ name: 'word.write', input: Word, retry })
  const jobs = await openJobs(t, [operation])
  const good = await Promise.all(['a', 'b', 'c', 'd'].map((word) => jobs.add(operation, { word })))
  const bad = await jobs.add(operation, invalid)
  const seen: unknown[] = []
  await jobs.work(
    defineHandlers(
      { operation },
      { 'word.write': { settle: async (_trx, batch) => void seen.push(...batch.map(({ payload }) => payload.word)) } },
    ),
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
  t.same(seen.toSorted(), ['a', 'b', 'c', 'd'])
})

t.test('a job with an invalid payload is not performed', async (t) => {
  const operation = defineOperation({ name: 'word.say', input: Word, retry: { limit: 0 } })
  const jobs = await openJobs(t, [operation])
  const ids = [await jobs.add(operation, invalid), await jobs.add(operation, { word: 'a' })] as const
  const seen: unknown[] = []
  await jobs.work(
    defineHandlers({ operation }, { 'word.say': { perform: async ({ payload }) => void seen.push(payload.word) } }),
  )
  t.match(await jobs.ended(ids[0]), { status: 'failed', error: { code: 'invalid-payload' } })
  t.match(await jobs.ended(ids[1]), { status: 'succeeded' })
  t.same(seen, ['a'])
})

t.test('an invalid result fails only its job, and its writes are rolled back', async (t) => {
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
            const effects = batch.map(({ id, payload }) => ({ job_id: id, word: payload.word }))
            await trx.insertInto('effect').values(effects).execute()
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

t.test('a follow-up job with an invalid payload fails the attempt that enqueues it', async (t) => {
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
