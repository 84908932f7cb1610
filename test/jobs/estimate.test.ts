import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { createEstimates, estimateCompletion } from '../../src/jobs/estimate.ts'
import type { Job } from '../../src/jobs/job.ts'
import { retryAfterSeconds } from '../../src/jobs/monitor.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const now = Date.parse('2026-01-02T03:04:05.000Z')
const ago = (seconds: number) => new Date(now - seconds * 1000)
const running = (more: Partial<Job>) =>
  ({
    operation: 'video.encode',
    status: 'running',
    attempt_started_at: ago(10),
    progress_at: ago(0),
    percent: null,
    progress_base: null,
    ...more,
  }) as Job
const seconds = (estimate: Date | undefined) => estimate && (estimate.getTime() - now) / 1000

t.test('the estimate uses the reported progress, or the average run time if no progress was reported', async (t) => {
  const averages = new Map([['video.encode', 60]])
  t.equal(seconds(estimateCompletion(running({ percent: 25 }), new Map(), now)), 30)
  t.equal(seconds(estimateCompletion(running({ percent: 25, progress_at: ago(5) }), averages, now)), 10)
  t.equal(seconds(estimateCompletion(running({}), averages, now)), 50)
  t.equal(seconds(estimateCompletion(running({ percent: 0 }), averages, now)), 50)
  t.equal(
    seconds(estimateCompletion(running({ percent: 50, progress_at: ago(6) }), averages, now)),
    50,
    'the time that was estimated from progress has passed',
  )
  t.equal(
    seconds(estimateCompletion(running({ percent: 90, progress_at: null }), averages, now)),
    50,
    'the percentage is from an earlier attempt',
  )
  t.equal(seconds(estimateCompletion(running({ percent: 25, updated_at: ago(-90) }), new Map(), now)), 30)
})

t.test('after an earlier attempt, the estimate uses the progress since the start of the current attempt', async (t) => {
  const resumed = running({ percent: 50, progress_base: 40 })
  t.equal(seconds(estimateCompletion(resumed, new Map(), now)), 50, '10 % took 10 s')
  const restarted = running({ percent: 50, progress_base: -1.25 })
  t.equal(Math.round(seconds(estimateCompletion(restarted, new Map(), now)) as number), 10, '51.25 % took 10 s')
  const begun = running({ percent: 40, progress_base: 40.5 })
  t.equal(estimateCompletion(begun, new Map(), now), undefined)
  t.equal(seconds(estimateCompletion(begun, new Map([['video.encode', 60]]), now)), 50)
})

t.test(
  'there is no estimate without data, after the estimated time has passed, or when the job is not running',
  async (t) => {
    t.equal(estimateCompletion(running({}), new Map(), now), undefined)
    t.equal(estimateCompletion(running({}), new Map([['video.encode', 10]]), now), undefined)
    t.equal(estimateCompletion(running({ percent: 50, progress_at: ago(6) }), new Map(), now), undefined)
    for (const status of ['queued', 'succeeded', 'failed', 'canceled'] as const) {
      t.equal(estimateCompletion(running({ status, percent: 25 }), new Map(), now), undefined, status)
    }
  },
)

t.test(
  'Retry-After is the estimated remaining time (1 to 30 s), 1 without an estimate, and absent after the job has ended',
  async (t) => {
    const inSeconds = (after: number) => new Date(now + after * 1000)
    t.equal(retryAfterSeconds(running({}), inSeconds(7.2), now), 8)
    t.equal(retryAfterSeconds(running({}), inSeconds(0.1), now), 1)
    t.equal(retryAfterSeconds(running({}), inSeconds(3600), now), 30)
    t.equal(retryAfterSeconds(running({}), undefined, now), 1)
    t.equal(retryAfterSeconds(running({ status: 'succeeded' }), inSeconds(7), now), undefined)
  },
)

t.test('workers store the average run time of jobs, and the next estimate uses this average', async (t) => {
  const operation = defineOperation({ name: 'video.encode', input: Type.Object({}) })
  const jobs = await openJobs(t, [operation])
  await jobs.work(defineHandlers({ operation }, { 'video.encode': { perform: async () => {} } }))
  await jobs.ended(await jobs.add(operation, {}))
  const [first] = await until(async () => {
    const rows = await jobs.query('select * from accepted.run_time')
    return rows.length > 0 && rows
  })
  t.match(first, { operation: 'video.encode' })
  await jobs.query('update accepted.run_time set seconds = 100')
  await jobs.ended(await jobs.add(operation, {}))
  const second = await until(async () => {
    const [row] = await jobs.query('select seconds from accepted.run_time')
    return row.seconds !== 100 && row
  })
  t.ok(second.seconds > 65 && second.seconds < 95, `${second.seconds} is a moving average`)
  const estimates = createEstimates(jobs.database)
  const job = { ...running({ attempt_started_at: new Date() }) }
  const estimate = await until(() => estimates.of(job))
  t.ok(estimate.getTime() > Date.now())
})
