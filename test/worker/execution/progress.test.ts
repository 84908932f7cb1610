import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import { createNotifier } from '../../../src/db/notifier.ts'
import { createProgressWriter } from '../../../worker/execution/progress.ts'
import { beginTransaction } from '../../support/database.ts'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word, retry: { limit: 0 } })

/** Creates a progress writer without a worker. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, [say])
  const { database } = jobs
  const progress = createProgressWriter(database, createNotifier(database), () => {})
  t.teardown(() => progress.close())
  return { ...jobs, progress }
}

t.test('progress is visible while the job runs, and never decreases', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  const mayReportAgain = Promise.withResolvers<void>()
  const mayEnd = Promise.withResolvers<void>()
  await jobs.work(
    handlersFor(say, {
      perform: async ({ progress }) => {
        progress(60, 'most of it')
        await mayReportAgain.promise
        progress(40)
        await mayEnd.promise
      },
    }),
  )
  const first = await until(async () => {
    const row = await jobs.read(id)
    return row.percent !== null && row
  })
  t.match(first, { status: 'running', percent: 60, message: 'most of it' })
  mayReportAgain.resolve()
  const second = await until(async () => {
    const row = await jobs.read(id)
    return row.sequence !== first.sequence && row
  })
  t.match(second, { percent: 60, message: 'most of it' })
  mayEnd.resolve()
  t.match(await jobs.ended(id), { status: 'succeeded', percent: 100 })
})

t.test('a late report of an earlier attempt does not change the progress of the current attempt', async (t) => {
  const { progress, query, add, read } = await setUp(t)
  const [retried, other] = [await add(say, { word: 'x' }), await add(say, { word: 'x' })]
  await query("update accepted.job set status = 'running', attempt = 2, percent = 10, attempt_started_at = now()")
  progress.begin({ id: retried, attempt: 1, percent: null })(77, 'the first attempt')
  progress.begin({ id: other, attempt: 2, percent: null })(20, 'the second attempt')
  await until(async () => (await read(other)).percent === 20)
  t.match(await read(retried), { percent: 10, message: null, progress_at: null })
})

t.test(
  'a report below the progress of an earlier attempt does not set progress_at; a long message is cut',
  async (t) => {
    const { progress, query, add, read } = await setUp(t)
    const id = await add(say, { word: 'x' })
    await query("update accepted.job set status = 'running', attempt = 2, percent = 90, attempt_started_at = now()")
    const report = progress.begin({ id, attempt: 2, percent: 90 })
    report(10, 'x'.repeat(3_000_000))
    await until(async () => (await read(id)).message)
    t.match(await read(id), { percent: 90, message: 'x'.repeat(500), progress_at: null })
    report(95)
    await until(async () => (await read(id)).percent === 95)
    t.ok((await read(id)).progress_at)
  },
)

t.test('a retry records at which percent it has started, whether it starts at 0 or from a checkpoint', async (t) => {
  const checkpointed = defineOperation({ name: 'word.checkpoint', input: Word, retry: { delaySeconds: 0 } })
  const jobs = await openJobs(t, [checkpointed])
  const mayEnd = Promise.withResolvers<void>()
  t.teardown(() => mayEnd.resolve())
  await jobs.work(
    handlersFor(checkpointed, {
      perform: async ({ id, payload, attempt, progress }) => {
        if (attempt === 1) {
          progress(40)
          throw new Error('no')
        }
        const first = payload.word === 'from the checkpoint' ? 40 : 0
        progress(first, 'begun')
        await until(async () => (await jobs.read(id)).message === 'begun')
        progress(60, 'goes on')
        await mayEnd.promise
      },
    }),
  )
  for (const [word, least, most] of [
    ['from the checkpoint', 0, 40],
    ['from the start', Number.NEGATIVE_INFINITY, 0],
  ] as const) {
    const id = await jobs.add(checkpointed, { word })
    const row = await until(async () => {
      const row = await jobs.read(id)
      return row.message === 'goes on' && row
    })
    t.match(row, { attempt: 2, percent: 60 })
    t.ok(row.progress_base > least && row.progress_base <= most, `${word}: ${row.progress_base}`)
  }
})

t.test(
  'a message that contains a NUL is stored without the NUL, and reports of other jobs are stored too',
  async (t) => {
    const jobs = await openJobs(t, [say])
    const ids = [await jobs.add(say, { word: 'a\u0001b' }), await jobs.add(say, { word: 'plain' })]
    const mayEnd = Promise.withResolvers<void>()
    t.teardown(() => mayEnd.resolve())
    await jobs.work(
      handlersFor(say, {
        perform: async ({ payload, progress }) => {
          progress(50, payload.word.replace('\u0001', '\0'))
          await mayEnd.promise
        },
      }),
    )
    const rows = await until(async () => {
      const rows = await Promise.all(ids.map(jobs.read))
      return rows.every(({ percent }) => percent === 50) && rows
    })
    t.same(
      rows.map(({ message }) => message),
      ['ab', 'plain'],
    )
  },
)

t.test('a progress report that is not between 0 and 100 fails the attempt', async (t) => {
  const jobs = await openJobs(t, [say])
  const ids = await Promise.all(['101', '-1', 'NaN'].map((word) => jobs.add(say, { word })))
  await jobs.work(handlersFor(say, { perform: async ({ payload, progress }) => progress(Number(payload.word)) }))
  for (const id of ids) {
    t.match(await jobs.ended(id), { status: 'failed', percent: null, error: { message: /is not between 0 and 100/ } })
  }
})

t.test('the last report before the end of an attempt is written with the end, whatever the end is', async (t) => {
  const jobs = await openJobs(t, [say])
  await jobs.work(
    handlersFor(say, {
      perform: async ({ id, payload, progress }) => {
        progress(70, `the last words of ${payload.word}`)
        if (payload.word === 'a failure') throw new Error('no')
        if (payload.word === 'a canceled job') await jobs.query('select accepted.cancel($1)', [id])
      },
    }),
  )
  for (const [word, status, percent] of [
    ['a success', 'succeeded', 100],
    ['a failure', 'failed', 70],
    ['a canceled job', 'canceled', 70],
  ] as const) {
    const ended = await jobs.ended(await jobs.add(say, { word }))
    t.match(ended, { status, percent, message: `the last words of ${word}` })
  }
})

t.test('a report that a statement is writing also counts as not yet written', async (t) => {
  const { progress, database, query, add, read } = await setUp(t)
  const id = await add(say, { word: 'x' })
  await query("update accepted.job set status = 'running', attempt = 1, attempt_started_at = now()")
  const lock = await beginTransaction(t, database, 'lock table accepted.job in share mode')
  progress.begin({ id, attempt: 1, percent: null })(70, 'x')
  const isWaiting = `select from pg_locks where relation = 'accepted.job'::regclass and not granted
    and database = (select oid from pg_database where datname = current_database())`
  await until(async () => (await query(isWaiting)).length > 0)
  t.match(progress.take(id), { percent: 70, message: 'x' })
  await lock.commit()
  await until(async () => (await read(id)).percent === 70)
  await until(() => progress.take(id) === undefined)
})
