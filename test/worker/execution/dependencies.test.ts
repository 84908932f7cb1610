import { randomBytes } from 'node:crypto'
import { defineOperation } from 'accepted'
import { type Dependency, defineHandlers, JobFailed } from 'accepted/worker'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../../src/jobs/enqueue.ts'
import { createSeals } from '../../../src/jobs/seals.ts'
import { newEncryptionKey } from '../../../src/primitives/key-ring.ts'
import { openJobs } from '../../support/jobs.ts'

const Word = Type.Object({ word: Type.String() })
/** Its result is the length of the word; for a number, a text of this many MiB. */
const measure = defineOperation({
  ...{ name: 'word.measure', input: Word, retry: { limit: 0 } },
  result: Type.Object({ length: Type.Integer(), text: Type.Optional(Type.String()) }),
})
const encrypt = defineOperation({
  ...{ name: 'word.encrypt', input: Word, seal: ['/secret'], result: Type.Object({ secret: Type.String() }) },
})
/** Reads the results in `perform`. */
const sum = defineOperation({
  ...{
    name: 'word.sum',
    input: Word,
    retry: { limit: 0 },
    result: Type.Object({ lengths: Type.Array(Type.Integer()) }),
  },
})
/** Reads the dependencies in `settle`. */
const list = defineOperation({ name: 'word.list', input: Word, retry: { limit: 0 } })
const operations = { measure, encrypt, sum, list }

const key = newEncryptionKey('2026')

/** What `word.list` has read, by the id of its job. */
const listed = new Map<string, Dependency[]>()

const handlers = defineHandlers(operations, {
  'word.measure': {
    settle: async (_trx, jobs) =>
      jobs.map(({ payload: { word }, setResource }) => {
        if (word === 'fail') throw new JobFailed('no-length', 'It has no length', { details: [1] })
        setResource(`/words/${word}`)
        const text = Number(word) > 0 && randomBytes(Number(word) * 2 ** 20).toString('base64')
        return { length: word.length, ...(text && { text }) }
      }),
  },
  'word.encrypt': { perform: async ({ payload }) => ({ secret: payload.word }) },
  'word.sum': {
    perform: async ({ payload, dependencies }) => {
      const measured = await dependencies(measure)
      if (payload.word === 'fail') throw new JobFailed('retry-it', 'Retry it')
      return { lengths: measured.map((one) => (one.status === 'succeeded' ? one.result.length : -1)) }
    },
  },
  'word.list': {
    settle: async (_trx, jobs) => {
      for (const { id, dependencies } of jobs) listed.set(id, await dependencies())
    },
  },
})

async function setUp(t: Test, { works = true } = {}) {
  const jobs = await openJobs(t, Object.values(operations))
  const work = () => jobs.work(handlers, { encryptionKeys: key })
  if (works) await work()
  return { ...jobs, jobs, work }
}

t.test('perform reads the results of the jobs that its job has waited for, in the order of after', async (t) => {
  const { add, ended } = await setUp(t)
  const [two, one, three] = [
    await add(measure, { word: 'xx' }),
    await add(measure, { word: 'x' }),
    await add(measure, { word: 'xxx' }),
  ]
  const id = await add(sum, { word: '' }, { after: [three, one, two, one] })
  t.same((await ended(id)).result, { lengths: [3, 1, 2] })
  const alone = await add(sum, { word: '' })
  t.same((await ended(alone)).result, { lengths: [] }, 'a job without after has none')
})

t.test('settle reads each status, also of another principal, and leaves out deleted records', async (t) => {
  const { add, ended, query } = await setUp(t)
  const good = await add(measure, { word: 'good' }, { principal: 'bob' })
  const bad = await add(measure, { word: 'fail' })
  await ended(bad)
  const canceled = await add(measure, { word: 'x' }, { after: [bad] })
  const forgotten = await add(measure, { word: 'x' }, { principal: 'cem' })
  for (const id of [good, forgotten, canceled]) await ended(id)
  const waits = await add(measure, { word: 'late' }, { runAt: new Date(Date.now() + 3_600_000) })
  const after = [canceled, good, forgotten, bad, waits]
  const id = await add(list, { word: '' }, { after, onFailure: 'run' })
  await query("select accepted.forget('cem')")
  await query('select accepted.reschedule($1, now())', [waits])
  await ended(id)
  const operation = 'word.measure'
  const children = undefined
  const error = { code: 'no-length', message: 'It has no length', details: [1] }
  t.same(listed.get(id), [
    { id: canceled, operation, principal: 'ann', resource: undefined, children, status: 'canceled' },
    {
      id: good,
      operation,
      principal: 'bob',
      resource: '/words/good',
      children,
      status: 'succeeded',
      result: { length: 4 },
    },
    { id: bad, operation, principal: 'ann', resource: undefined, children, status: 'failed', error },
    {
      id: waits,
      operation,
      principal: 'ann',
      resource: '/words/late',
      children,
      status: 'succeeded',
      result: { length: 4 },
    },
  ])
})

t.test('sealed members are open, and a batch has its counts as result', async (t) => {
  const { add, ended, query, database, boss } = await setUp(t)
  const seals = createSeals(key, [encrypt])
  const sealed = { id: uuid7(), operation: encrypt, payload: { word: 'hidden' }, principal: 'bob' }
  await database.kysely.transaction().execute((trx) => enqueue(boss, trx, [sealed], seals))
  const items = JSON.stringify([{ operation: measure.name, payload: { word: 'x' } }])
  const [{ batch }] = await query('select accepted.enqueue_batch($1::jsonb) as batch', [items])
  const counts = { total: 1, succeeded: 1, failed: 0, canceled: 0 }
  t.match((await ended(sealed.id)).result, { secret: { $sealed: /^sealed/ } })
  const id = await add(list, { word: '' }, { after: [sealed.id, batch] })
  await ended(id)
  t.match(listed.get(id), [
    { id: sealed.id, result: { secret: 'hidden' } },
    { id: batch, operation: 'batch', result: counts, children: counts },
  ])
})

t.test('a retry reads the same dependencies', async (t) => {
  const { add, ended, query } = await setUp(t)
  const first = await add(measure, { word: 'xx' })
  const id = await add(sum, { word: 'fail' }, { after: [first] })
  t.match(await ended(id), { status: 'failed' })
  const [{ retry }] = await query('select accepted.retry($1) as retry', [id])
  t.match(await ended(retry), { status: 'failed', after: [first], waiting_for: null })
})

t.test('results of more than 16 MiB are refused, and do not fail other jobs of the batch', async (t) => {
  const { add, ended, work } = await setUp(t, { works: false })
  const large = [await add(measure, { word: '8' }), await add(measure, { word: '8' })]
  const small = await add(list, { word: '' }, { after: [large[0] as string] })
  const refused = await add(list, { word: '' }, { after: large })
  await work()
  t.match(await ended(refused), { status: 'failed', error: { message: /dependencies have \d+ bytes/ } })
  t.match(await ended(small), { status: 'succeeded' })
  t.match(listed.get(small), [{ result: { length: 1 } }])
})
