import { defineOperation } from 'accepted'
import t from 'tap'
import { beginTransaction, findBlockedBackends } from '../../support/database.ts'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

/** Defines an operation whose jobs are grouped by their word. */
const defineGrouped = (groupConcurrency: number) =>
  defineOperation({ name: 'word.group', input: Word, group: ({ word }) => word, groupConcurrency })

t.test(
  'a worker runs at most `concurrency` jobs at once, and at most `groupConcurrency` jobs of each group',
  async (t) => {
    const grouped = defineGrouped(2)
    const jobs = await openJobs(t, [grouped])
    const ids = await Promise.all(
      ['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b', 'a', 'a'].map((word) => jobs.add(grouped, { word })),
    )
    const running: string[] = []
    const max = { all: 0, group: 0 }
    await jobs.work(
      handlersFor(grouped, {
        concurrency: 3,
        perform: async ({ payload: { word } }) => {
          running.push(word)
          max.all = Math.max(max.all, running.length)
          max.group = Math.max(max.group, running.filter((other) => other === word).length)
          await new Promise((resolve) => setImmediate(resolve))
          running.splice(running.indexOf(word), 1)
        },
      }),
    )
    for (const id of ids) t.equal((await jobs.ended(id)).status, 'succeeded')
    t.ok(max.all <= 3, `${max.all} jobs ran at once`)
    t.ok(max.group <= 2, `${max.group} jobs of one group ran at once`)
  },
)

t.test('several workers together run at most `groupConcurrency` jobs of each group at once', async (t) => {
  const grouped = defineGrouped(2)
  const jobs = await openJobs(t, [grouped])
  const words = Array.from({ length: 60 }, (_, index) => `group ${index % 3}`)
  const ids = await Promise.all(words.map((word) => jobs.add(grouped, { word })))
  const active: number[] = []
  const handlers = handlersFor(grouped, {
    perform: async ({ payload: { word } }) => {
      const [{ count }] = await jobs.query(
        "select count(*)::int from accepted_queue.job where state = 'active' and group_id = $1",
        [word],
      )
      active.push(count)
    },
  })
  await Promise.all(Array.from({ length: 3 }, () => jobs.work(handlers)))
  for (const id of ids) t.equal((await jobs.ended(id)).status, 'succeeded')
  t.equal(Math.max(...active), 2, 'the limit was reached and not exceeded')
})

t.test('the next job of a group starts when the previous job has ended, without waiting for a poll', async (t) => {
  const grouped = defineGrouped(1)
  const jobs = await openJobs(t, [grouped])
  // Polls are one second apart. If each job waited for a poll, 100 jobs would exceed the timeout of `until()`.
  for (let count = 0; count < 100; count++) await jobs.add(grouped, { word: 'x' })
  await jobs.work(handlersFor(grouped, { perform: async () => {} }))
  const statuses = await until(async () => {
    const rows = await jobs.query('select status from accepted.job where ended_at is not null')
    return rows.length === 100 && rows
  })
  t.ok(statuses.every(({ status }) => status === 'succeeded'))
})

t.test('a scheduled job does not run before it is due, and a job of a higher priority runs first', async (t) => {
  const jobs = await openJobs(t, [say])
  const order: string[] = []
  const scheduled = await jobs.add(say, { word: 'later' }, { runAt: new Date(Date.now() + 3_600_000) })
  const low = await jobs.add(say, { word: 'low' })
  const high = await jobs.add(say, { word: 'high' }, { priority: 10 })
  await jobs.work(handlersFor(say, { concurrency: 1, perform: async ({ payload }) => void order.push(payload.word) }))
  await jobs.ended(low)
  await jobs.ended(high)
  t.same(order, ['high', 'low'])
  t.match(await jobs.read(scheduled), { status: 'queued', attempt: 0 })
  await jobs.query('update accepted_queue.job set start_after = now() where id = $1', [scheduled])
  t.match(await jobs.ended(scheduled), { status: 'succeeded' })
})

t.test('a job that is claimed while the worker stops is released before it begins', async (t) => {
  const grouped = defineGrouped(1)
  const jobs = await openJobs(t, [grouped])
  // The claims of an operation with groups wait for this lock.
  const lock = await beginTransaction(
    t,
    jobs.database,
    "select pg_advisory_xact_lock(hashtext('accepted.claim'), hashtext('word.group'))",
  )
  const id = await jobs.add(grouped, { word: 'x' })
  const worker = await jobs.work(handlersFor(grouped, { perform: async () => void t.fail('the handler ran') }))
  await until(async () => (await findBlockedBackends(jobs.query, '%pg_advisory_xact_lock%')).length > 0)
  const stopped = worker.stop()
  await lock.commit()
  await stopped
  t.match(await jobs.read(id), { status: 'queued', attempt: 0 })
  t.match(await jobs.query('select state, retry_count from accepted_queue.job'), [{ state: 'created', retry_count: 0 }])
})
