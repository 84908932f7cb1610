import { defineOperation, defineSchedule, type Schedule } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../../src/db/notifier.ts'
import { createScheduler, writeSchedules } from '../../../worker/maintenance/scheduler.ts'
import { sqlError } from '../../sql/support.ts'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'

const report = defineOperation({ name: 'report.make', input: Type.Object({ day: Type.String() }) })
const day = (at: Date) => ({ day: at.toISOString().slice(0, 10) })
const daily = defineSchedule({ name: 'daily', cron: '0 3 * * *', operation: report, payload: day, principal: 'ann' })

/** Creates a scheduler without a worker, with a schedule whose next occurrence is on 1 November 2027 at 03:00. */
async function setUp(t: Test, ...more: Schedule[]) {
  const jobs = await openJobs(t, [report])
  const { database, boss, query } = jobs
  const schedules = new Map([daily, ...more].map((schedule) => [schedule.name, schedule]))
  const lines: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line).msg) })
  const context = { database, boss, schedules, log }
  const notifier = createNotifier(database)
  t.teardown(() => notifier.flush())
  await writeSchedules(context)
  return {
    jobs,
    query,
    lines,
    fire: createScheduler(context, notifier),
    createAnother: () => createScheduler(context, notifier),
    row: async (name = 'daily') => (await query('select * from accepted.schedule_overview where name = $1', [name]))[0],
    call: async (text: string): Promise<string> => (await query(`select accepted.${text} as result`))[0].result,
    /** The days of the jobs of a batch. */
    days: async (batch: string): Promise<string[]> =>
      (
        await query(
          `select queued.data -> 'payload' ->> 'day' as day from accepted.job
          join accepted_queue.job queued on queued.data ->> 'job' = job.id::text
          where parent = $1 order by job.id`,
          [batch],
        )
      ).map((row) => row.day),
  }
}

const range = (since: string, until: string, more = '') => `backfill_schedule('daily', '${since}Z', '${until}Z'${more})`

t.test('run_schedule requests a job, which a worker creates under the id that the function returned', async (t) => {
  const { jobs, query, call, row } = await setUp(t)
  await call(`pause_schedule('daily', 'the bank is closed')`)
  const before = await row()
  const id = await call(`run_schedule('daily')`)
  t.match(await row(), { requests: '1', last_job_id: null })
  t.match(await query('select from accepted.job'), [])
  const handlers = defineHandlers({ report, daily }, { 'report.make': { settle: async () => {} } })
  await jobs.work(handlers)
  await until(() => jobs.read(id))
  t.match(await jobs.ended(id), { status: 'succeeded', operation: 'report.make', principal: 'ann' })
  const after = await row()
  t.match(after, { requests: '0', last_job_id: id, last_status: 'succeeded', paused_reason: 'the bank is closed' })
  t.same(after.next_at, before.next_at, 'the next occurrence stays')
  t.same(await query('select from accepted.schedule_request'), [])
})

t.test('schedulers that find a request at the same time create one job', async (t) => {
  const { query, call, createAnother } = await setUp(t)
  await call(`run_schedule('daily')`)
  await call(range('2026-01-01', '2026-01-04'))
  await Promise.all(Array.from({ length: 4 }, () => createAnother()()))
  await createAnother()()
  t.match(await query('select operation, count(*) from accepted.job group by 1 order by 1'), [
    { operation: 'batch', count: '1' },
    { operation: 'report.make', count: '4' },
  ])
})

t.test('backfill_schedule creates one job per missed occurrence, the oldest first, and none twice', async (t) => {
  const { jobs, query, fire, call, days, row } = await setUp(t)
  // The occurrence of 10 January has become a job on time.
  await query(`update accepted.schedule set done = '{[2026-01-10 03:00Z, 2026-01-11 03:00Z)}'`)
  const first = await call(range('2026-01-08T03:00', '2026-01-12T03:00'))
  await fire()
  t.same(await days(first), ['2026-01-08', '2026-01-09', '2026-01-11'], 'since counts, until does not')
  t.match(await query(`select principal, idempotency_key from accepted.job where parent = $1 limit 1`, [first]), [
    { principal: 'ann', idempotency_key: 'schedule:daily:2026-01-08T03:00:00.000Z' },
  ])
  t.match(await jobs.read(first), { operation: 'batch', status: 'running', children: { total: 3 } })

  const second = await call(range('2026-01-01', '2026-01-20', ', max_jobs => 8'))
  const third = await call(range('2026-01-01', '2026-01-20'))
  await fire()
  t.same(await days(second), [...'1234567'].map((one) => `2026-01-0${one}`).concat('2026-01-12'))
  t.same(
    await days(third),
    [...'3456789'].map((one) => `2026-01-1${one}`),
    'it goes on where max_jobs has stopped',
  )
  const again = await call(range('2026-01-01', '2026-01-20'))
  await fire()
  t.match(await jobs.read(again), { status: 'succeeded', result: { total: 0, succeeded: 0 } }, 'nothing was missed')
  t.equal((await row()).last_job_id, null, 'a backfill is not the last occurrence')

  await call(`cancel('${third}')`)
  t.match(await query('select distinct status from accepted.job where parent = $1', [third]), [{ status: 'canceled' }])
})

t.test('an occurrence that has become a job on time is not backfilled, and one to come neither', async (t) => {
  const minutely = defineSchedule({ name: 'minutely', cron: '* * * * *', operation: report, payload: { day: 'x' } })
  const { jobs, query, fire, call, row } = await setUp(t, minutely)
  await query(`update accepted.schedule set next_at = date_trunc('minute', now()) where name = 'minutely'`)
  await fire()
  const { last_at: fired, next_fires: next } = await row('minutely')
  t.same(
    next.map((at: Date) => at.getTime() - fired.getTime()),
    [60_000, 120_000, 180_000, 240_000, 300_000],
  )
  const batch = await call(`backfill_schedule('minutely', '${fired.toISOString()}', now() + interval '9 days')`)
  await fire()
  t.match(await jobs.read(batch), { status: 'succeeded', result: { total: 0 } })
})

t.test('while a schedule is paused its occurrences are missed, and a backfill creates their jobs', async (t) => {
  const minutely = defineSchedule({ name: 'minutely', cron: '* * * * *', operation: report, payload: { day: 'x' } })
  const { query, fire, call } = await setUp(t, minutely)
  await call(`pause_schedule('minutely')`)
  await query(`update accepted.schedule set next_at = date_trunc('minute', now()) - interval '5 minutes'
    where name = 'minutely'`)
  await fire()
  t.same(await query('select from accepted.job'), [])
  await call(`resume_schedule('minutely')`)
  await call(`backfill_schedule('minutely', date_trunc('minute', now()) - interval '5 minutes')`)
  await fire()
  const [{ count }] = await query(`select count(*)::integer from accepted.job where operation = 'report.make'`)
  t.ok(count >= 5 && count <= 7, `${count} jobs`)
})

t.test('a request whose payload fails stays, is logged once, does not hold up others, and lapses', async (t) => {
  let isFixed = false
  const broken = defineSchedule({
    ...{ name: 'broken', cron: '0 3 * * *', operation: report },
    payload: (at) => (isFixed ? day(at) : ({ day: 7 } as unknown as { day: string })),
  })
  const { jobs, query, fire, call, row, lines } = await setUp(t, broken)
  const [first, other] = [await call(`run_schedule('broken')`), await call(`run_schedule('daily')`)]
  await fire()
  await fire()
  t.equal(lines.filter((line) => /retrying every second for a day/.test(line)).length, 1)
  t.match(await row('broken'), { requests: '1' })
  t.ok(await jobs.read(other))
  isFixed = true
  await fire()
  t.match(await jobs.read(first), { operation: 'report.make' })
  await call(`run_schedule('broken')`)
  await query(`update accepted.schedule_request set requested_at = now() - interval '25 hours'`)
  await fire()
  t.match(lines.at(-1), /has lapsed/)
  t.match(await row('broken'), { requests: '0', last_job_id: first })
})

t.test('pause and resume keep when and why, also with an update of the column', async (t) => {
  const { query, call, row } = await setUp(t)
  await call(`pause_schedule('daily', 'the bank is closed')`)
  const { paused_at: since } = await row()
  t.type(since, Date)
  await call(`pause_schedule('daily')`)
  t.match(await row(), { paused_at: since, paused_reason: 'the bank is closed' })
  await call(`resume_schedule('daily')`)
  t.match(await row(), { paused_at: null, paused_reason: null })
  await query('update accepted.schedule set paused = true')
  t.match(await row(), { paused_at: Date, paused_reason: null })
})

t.test('the functions refuse unknown schedules and wrong arguments with a way out', async (t) => {
  const { call, query } = await setUp(t)
  const unknown = { code: '42704', message: `there is no schedule 'nightly'`, hint: 'Schedules: daily' }
  for (const name of ['pause', 'resume', 'run']) t.match(await sqlError(call(`${name}_schedule('nightly')`)), unknown)
  t.match(await sqlError(call(`backfill_schedule('nightly', now() - interval '1 day')`)), unknown)
  t.match(await sqlError(call('run_schedule(null)')), { code: '42704' })
  for (const wrong of [
    range('2026-01-02', '2026-01-01'),
    range('2026-01-02', '2026-01-02'),
    `backfill_schedule('daily', null)`,
    `backfill_schedule('daily', '-infinity')`,
    `backfill_schedule('daily', now(), 'infinity')`,
    range('2026-01-01', '2026-01-02', ', 0'),
    range('2026-01-01', '2026-01-02', ', 10001'),
    range('2026-01-01', '2026-01-02', ', null'),
  ]) {
    t.match(await sqlError(call(wrong)), { code: '22023', hint: /./ }, wrong)
  }
  await query('delete from accepted.schedule')
  t.match(await sqlError(call(`run_schedule('daily')`)), { code: '42704', hint: /when it starts/ })
})

t.test('a backfill of many occurrences leaves one range of time behind', async (t) => {
  const secondly = defineSchedule({ name: 'secondly', cron: '* * * * * *', operation: report, payload: { day: 'x' } })
  const { jobs, query, fire, call } = await setUp(t, secondly)
  // Else the schedule may be due itself.
  await query("update accepted.schedule set next_at = now() + interval '1 hour' where name = 'secondly'")
  const id = await call(`backfill_schedule('secondly', now() - interval '1 day')`)
  await fire()
  t.match(await jobs.read(id), { children: { total: 1_000 } }, 'the default of max_jobs')
  t.match(
    await query(`
      select upper(done) - lower(done) as length, (select count(*) from unnest(done)) as ranges
      from accepted.schedule where name = 'secondly'`),
    [{ ranges: '1', length: { minutes: 16, seconds: 40 } }],
  )
})
