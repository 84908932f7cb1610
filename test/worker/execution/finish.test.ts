import { defineOperation } from 'accepted'
import t from 'tap'
import { findBlockedBackends } from '../../support/database.ts'
import { openJobs, writeEffects } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { cancel, handlersFor, untilRunning, Word } from '../support.ts'

const write = defineOperation({ name: 'word.write', input: Word })

const words = Array.from({ length: 20 }, (_, index) => `word ${index}`)

t.test('a job that was canceled before its batch runs is left out of the batch', async (t) => {
  const jobs = await openJobs(t, [write])
  const ids: string[] = []
  for (const word of words) ids.push(await jobs.add(write, { word }))
  await jobs.query("update accepted.job set status = 'canceled', ended_at = now() where id = $1", [ids[7]])
  await jobs.work(handlersFor(write, { settle: writeEffects }))
  for (const [index, id] of ids.entries()) {
    t.equal((await jobs.ended(id)).status, index === 7 ? 'canceled' : 'succeeded')
  }
  await until(async () => (await jobs.query('select from accepted_queue.job')).length === 0)
  t.equal((await jobs.query('select from effect')).length, words.length - 1)
  t.same(await jobs.query('select from effect where job_id = $1', [ids[7]]), [])
})

t.test('a job with a cancel request ends as canceled, and the other jobs of its batch are settled', async (t) => {
  const jobs = await openJobs(t, [write])
  const ids = await Promise.all(['a', 'b', 'c'].map((word) => jobs.add(write, { word })))
  const [, canceled] = ids as [string, string, string]
  // A client may request the cancellation after the job was claimed.
  await jobs.query(`update accepted.job set cancel_requested = true where id = $1`, [canceled])
  await jobs.work(handlersFor(write, { settle: writeEffects }))
  const ends = await Promise.all(ids.map((id) => jobs.ended(id)))
  t.same(
    ends.map(({ status }) => status),
    ['succeeded', 'canceled', 'succeeded'],
  )
  t.same(
    (await jobs.query('select word from effect order by word')).map(({ word }) => word),
    ['a', 'c'],
  )
})

t.test('a canceled job whose handler ignores the signal is not settled', async (t) => {
  const jobs = await openJobs(t, [write])
  const hasBegun = Promise.withResolvers<void>()
  const mayEnd = Promise.withResolvers<void>()
  await jobs.work(
    handlersFor(write, {
      perform: async () => {
        hasBegun.resolve()
        await mayEnd.promise
      },
      settle: writeEffects,
    }),
  )
  const id = await jobs.add(write, { word: 'no' })
  await hasBegun.promise
  await cancel(jobs, id)
  mayEnd.resolve()
  t.match(await jobs.ended(id), { status: 'canceled' })
  t.same(await jobs.query('select from effect'), [])
})

t.test('when an attempt of a job with a cancel request fails, the job is canceled instead of retried', async (t) => {
  const jobs = await openJobs(t, [write])
  const id = await jobs.add(write, { word: 'no' })
  let attempts = 0
  const hasBegun = Promise.withResolvers<void>()
  const mayFail = Promise.withResolvers<void>()
  await jobs.work(
    handlersFor(write, {
      perform: async () => {
        attempts += 1
        hasBegun.resolve()
        await mayFail.promise
        throw new Error('no')
      },
    }),
  )
  await hasBegun.promise
  await cancel(jobs, id)
  mayFail.resolve()
  t.match(await jobs.ended(id), { status: 'canceled', error: null })
  t.equal(attempts, 1)
})

t.test('a cancel request during a settle waits for the settle, and is then too late', async (t) => {
  const jobs = await openJobs(t, [write])
  const isSettling = Promise.withResolvers<void>()
  const mayCommit = Promise.withResolvers<void>()
  await jobs.work(
    handlersFor(write, {
      settle: async (trx, batch) => {
        await writeEffects(trx, batch)
        isSettling.resolve()
        await mayCommit.promise
      },
    }),
  )
  const id = await jobs.add(write, { word: 'yes' })
  await isSettling.promise
  const canceled = cancel(jobs, id)
  await until(async () => (await findBlockedBackends(jobs.query)).length > 0)
  mayCommit.resolve()
  t.match(await canceled, { kind: 'too-late', job: { status: 'succeeded' } })
  t.same(await jobs.query('select word from effect'), [{ word: 'yes' }])
})

t.test('a job that is set to canceled by hand while it runs stays canceled and has no effect', async (t) => {
  const jobs = await openJobs(t, [write])
  const id = await jobs.add(write, { word: 'x' })
  const mayEnd = Promise.withResolvers<void>()
  await jobs.work(handlersFor(write, { perform: () => mayEnd.promise, settle: writeEffects }))
  await untilRunning(jobs, id)
  await jobs.query("update accepted.job set status = 'canceled', ended_at = now() where id = $1", [id])
  mayEnd.resolve()
  await until(async () => (await jobs.query('select from accepted_queue.job')).length === 0)
  t.match(await jobs.read(id), { status: 'canceled', result: null })
  t.same(await jobs.query('select from effect'), [])
})

t.test('when a claim is lost, the settle of its job is rolled back', async (t) => {
  const jobs = await openJobs(t, [write])
  const id = await jobs.add(write, { word: 'stale' })
  const [started, mayEnd] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let settleCount = 0
  const worker = await jobs.work(
    handlersFor(write, {
      perform: () => {
        started.resolve()
        return mayEnd.promise
      },
      settle: async (trx, batch) => {
        await writeEffects(trx, batch)
        settleCount += 1
      },
    }),
    { graceSeconds: 30 },
  )
  await started.promise
  // Another worker writes this when it rescues the job and claims it.
  await jobs.query('update accepted_queue.job set retry_count = retry_count + 1 where id = $1', [id])
  mayEnd.resolve()
  await worker.stop()
  t.equal(settleCount, 1)
  t.same(await jobs.query('select from effect'), [])
  t.match(await jobs.read(id), { status: 'running' })
  t.same(await jobs.query('select state::text from accepted_queue.job'), [{ state: 'active' }])
})
