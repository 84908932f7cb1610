import { defineOperation } from 'accepted'
import t from 'tap'
import { openDatabase } from '../../../src/db/database.ts'
import { createNotifier } from '../../../src/db/notifier.ts'
import { cancelJob } from '../../../src/jobs/cancel.ts'
import { createCancellations } from '../../../worker/execution/cancellation.ts'
import { openJobs, writeEffects } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { cancel, handlersFor, readSeries, Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

t.test('a cancel request that arrives shortly before its job is watched still cancels the job', async (t) => {
  const database = openDatabase({ url: 'postgres://nobody' })
  t.teardown(() => database.close())
  const cancellations = createCancellations(database)
  cancellations.request(['early', 'other'])
  const canceled: string[] = []
  cancellations.watch('early', () => canceled.push('early'))
  cancellations.watch('late', () => canceled.push('late'))
  t.same(canceled, ['early'])
})

t.test('when one attempt stops watching, the next attempt of the job still gets cancel requests', async (t) => {
  const database = openDatabase({ url: 'postgres://nobody' })
  t.teardown(() => database.close())
  const cancellations = createCancellations(database)
  const canceled: string[] = []
  const unwatchFirst = cancellations.watch('job', () => canceled.push('first'))
  const unwatchSecond = cancellations.watch('job', () => canceled.push('second'))
  unwatchFirst()
  cancellations.request(['job'])
  t.same(canceled, ['second'])
  unwatchSecond()
  cancellations.request(['job'])
  t.same(canceled, ['second'])
})

for (const source of ['a notification', 'a poll'] as const) {
  t.test(
    `when a worker gets a cancel request by ${source}, the signal aborts, and the effects are rolled back`,
    async (t) => {
      const jobs = await openJobs(t, [say])
      const hasBegun = Promise.withResolvers<void>()
      const isAborted = Promise.withResolvers<void>()
      const worker = await jobs.work(
        handlersFor(say, {
          perform: async ({ signal }) => {
            signal.addEventListener('abort', () => isAborted.resolve())
            hasBegun.resolve()
            await isAborted.promise
          },
          settle: writeEffects,
        }),
      )
      await until(async () => readSeries(await worker.metrics(), 'accepted_listener_up') === 1)
      const id = await jobs.add(say, { word: 'no' })
      await hasBegun.promise
      const notifier = createNotifier(jobs.database)
      await jobs.database.kysely.transaction().execute(async (trx) => {
        const canceled = await cancelJob(trx, { id, principal: 'ann' })
        t.match(canceled, { kind: 'requested', job: { status: 'running', cancel_requested: true } })
        if (source !== 'a notification') return
        // Before the commit, a poll cannot find the request.
        notifier.notify('cancel', [id])
        await isAborted.promise
      })
      await isAborted.promise
      t.match(await jobs.ended(id), { status: 'canceled', payload: { word: 'no' }, attempt: 1, error: null })
      t.same(await jobs.query('select from effect'), [])
      t.same(await jobs.query('select from accepted.attempt'), [], 'no failed attempt is recorded')
      t.same(await jobs.query('select from accepted_queue.job'), [], 'the queue row of the job is deleted')
    },
  )
}

t.test('a queued job is canceled immediately: its handler never runs, and its payload is kept', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'no' })
  t.match(await cancel(jobs, id), { kind: 'canceled', job: { sequence: '2' } })
  t.match(
    await cancel(jobs, id),
    { kind: 'canceled', job: { sequence: '2' } },
    'a second cancel request changes nothing',
  )
  const other = await jobs.add(say, { word: 'yes' })
  await jobs.work(handlersFor(say, { settle: writeEffects }))
  await jobs.ended(other)
  t.same(await jobs.query('select job_id, word from effect'), [{ job_id: other, word: 'yes' }])
  t.match(await jobs.read(id), { status: 'canceled', payload: { word: 'no' }, cancel_requested: true, attempt: 0 })
  t.match(await cancel(jobs, other), { kind: 'too-late' })
  t.same(await cancel(jobs, '019b7d2e-0000-7000-8000-000000000000'), { kind: 'unknown' })
})
