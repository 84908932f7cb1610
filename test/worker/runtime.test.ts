import { hostname } from 'node:os'
import { defineOperation } from 'accepted'
import t from 'tap'
import { channels, createNotifier } from '../../src/db/notifier.ts'
import { openJobs, writeEffects } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { handlersFor, Word } from './support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

t.test('a worker listens for work and cancel requests on one connection', async (t) => {
  const jobs = await openJobs(t, [say])
  await jobs.work(handlersFor(say, { settle: writeEffects }))
  const listening = await until(async () => {
    const rows = await jobs.query(`
      select query from pg_stat_activity where datname = current_database() and application_name like '% listen'`)
    return rows.length > 0 && rows
  })
  t.equal(listening.length, 1)
  t.same(Object.keys(channels), ['work', 'status', 'cancel', 'end'])
})

t.test(
  'a notification wakes a worker without a poll, and a poll finds a job whose notification was lost',
  async (t) => {
    const jobs = await openJobs(t, [say])
    await jobs.work(handlersFor(say, { settle: writeEffects }))
    for (const word of ['while the worker is idle', 'when it has just claimed']) {
      const unnotified = await jobs.add(say, { word })
      t.match(await jobs.ended(unnotified), { status: 'succeeded' })
    }

    const blocker = await jobs.database.pool.connect()
    t.teardown(() => blocker.release(true))
    // Only polls read this table, so they hang.
    await blocker.query('begin; lock table accepted.schedule_request in access exclusive mode')
    const hanging = `
    select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like '%find_due_work%'`
    await until(async () => (await jobs.query(hanging)).length > 0)
    const notified = await jobs.add(say, { word: 'notified' })
    const notifier = createNotifier(jobs.database)
    notifier.notify('work', [say.name])
    await notifier.flush()
    t.match(await jobs.ended(notified), { status: 'succeeded' })
    t.ok((await jobs.query(hanging)).length > 0, 'the poll still hangs')
  },
)

t.test('a stopping worker waits until its running jobs have ended, and claims no more jobs', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  const [started, mayEnd] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const performed: string[] = []
  const perform = ({ id }: { id: string }) => {
    performed.push(id)
    started.resolve()
    return mayEnd.promise
  }
  const worker = await jobs.work(handlersFor(say, { perform }), { graceSeconds: 30 })
  await started.promise
  const stopped = worker.stop()
  const next = await jobs.add(say, { word: 'after' })
  mayEnd.resolve()
  await stopped
  t.match(await jobs.read(id), { status: 'succeeded' })
  // A claim that was on its way is released.
  t.match(await jobs.read(next), { status: 'queued' })
  t.same(performed, [id])
})

t.test('a job that does not end in the grace period is released, and its late result has no effect', async (t) => {
  const echo = defineOperation({ name: 'word.echo', input: Word, result: Word })
  const jobs = await openJobs(t, [echo])
  const id = await jobs.add(echo, { word: 'x' })
  const lateResult = Promise.withResolvers<{ word: string }>()
  const started = Promise.withResolvers<void>()
  let abortReason: unknown
  const worker = await jobs.work(
    handlersFor(echo, {
      perform: ({ signal }) => {
        signal.addEventListener('abort', () => {
          abortReason = signal.reason
        })
        started.resolve()
        return lateResult.promise
      },
      settle: writeEffects,
    }),
    { graceSeconds: 0 },
  )
  await started.promise
  await Promise.all([worker.stop(), worker.stop()])
  t.match(abortReason, { message: 'The worker is stopping' })
  lateResult.resolve({ word: 'late' })
  t.match(await jobs.read(id), { status: 'queued', ended_at: null })
  t.same(await jobs.query('select state::text, retry_count from accepted_queue.job'), [
    { state: 'created', retry_count: 0 },
  ])
  const timeline = () =>
    jobs.query('select event, attempt, worker, detail from accepted.timeline where job_id = $1 order by at', [id])
  const detail = 'released before it ended; the attempt does not count'
  const us = `${hostname()}:${process.pid}`
  const start = { event: 'started', attempt: 1 }
  t.match(await timeline(), [{ event: 'accepted' }, { event: 'due' }, { ...start, detail }])

  await jobs.work(handlersFor(echo, { perform: async ({ payload }) => payload }))
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1, result: { word: 'x' } })
  t.same(await jobs.query('select from effect'), [])
  t.same(await jobs.query('select from accepted.attempt'), [])
  t.same((await timeline()).slice(1, 3), [
    { ...start, worker: null, detail },
    { ...start, worker: us, detail: null },
  ])
})
