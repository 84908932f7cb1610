import { defineOperation, defineSchedule, type Schedule } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../../src/db/notifier.ts'
import { createScheduler, writeSchedules } from '../../../worker/maintenance/scheduler.ts'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'

const report = defineOperation({ name: 'report.make', input: Type.Object({ day: Type.String() }) })
const settle = async () => {}
const day = (at: Date) => ({ day: at.toISOString().slice(0, 10) })

interface More {
  name?: string
  cron?: string | undefined
  rrule?: string
  timezone?: string
  payload?: { day: string } | ((at: Date) => { day: string })
  missed?: 'skip' | 'once'
}

/** Defines a yearly schedule. It fires only when the test makes it due. */
const yearly = (more: More = {}): Schedule =>
  defineSchedule({ name: 'yearly', cron: '0 3 1 1 *', operation: report, payload: day, ...more } as Parameters<
    typeof defineSchedule<typeof report>
  >[0])

const handlersFor = (...schedules: Schedule[]) =>
  defineHandlers({ report, ...schedules }, { 'report.make': { settle } })

const log = pino({ level: 'silent' })

/** Creates a scheduler without a worker. */
async function setUp(t: Test, ...defined: Schedule[]) {
  const jobs = await openJobs(t, [report])
  const schedules = new Map(defined.map((schedule) => [schedule.name, schedule]))
  const context = { database: jobs.database, boss: jobs.boss, schedules, log }
  const notifier = createNotifier(jobs.database)
  t.teardown(() => notifier.flush())
  await writeSchedules(context)
  return {
    jobs,
    fire: createScheduler(context, notifier),
    createAnother: () => createScheduler(context, notifier),
  }
}

const row = async ({ query }: Jobs) => (await query('select * from accepted.schedule'))[0]
const setDue = ({ query }: Jobs, ago: string) =>
  query(`update accepted.schedule set next_at = date_trunc('second', now()) - $1::interval returning next_at`, [ago])
const made = ({ query }: Jobs) => query('select * from accepted.job order by id')

t.test('an occurrence becomes one job, even with several workers that do not run the operation', async (t) => {
  const jobs = await openJobs(t, [report])
  const other = defineOperation({ name: 'report.other', input: Type.Object({}) })
  const handlers = defineHandlers(
    { report, other, schedule: yearly() },
    { 'report.make': { settle }, 'report.other': { settle } },
  )
  await Promise.all([
    jobs.work(handlers, { operations: ['report.other'] }),
    jobs.work(handlers, { operations: ['report.other'] }),
  ])
  const { next_at: newYear } = await row(jobs)
  t.match(newYear.toISOString(), /-01-01T03:00:00\.000Z$/)

  const [{ next_at: due }] = (await setDue(jobs, '5 seconds')) as [{ next_at: Date }]
  const after = await until(async () => {
    const found = await row(jobs)
    return found.last_at && found
  })
  t.same(after.last_at, due)
  t.same(after.next_at, newYear)
  const all = await made(jobs)
  t.match(all, [
    {
      id: after.last_job_id,
      operation: 'report.make',
      principal: 'schedule',
      idempotency_key: `schedule:yearly:${due.toISOString()}`,
      status: 'queued',
    },
  ])
  t.equal(all.length, 1)
  t.same(await jobs.query('select data from accepted_queue.job'), [
    { data: { job: after.last_job_id, payload: day(due) } },
  ])

  await jobs.work(handlers)
  t.match(await jobs.ended(after.last_job_id), { status: 'succeeded' })
})

t.test('schedulers that fire at the same time create one job', async (t) => {
  const { jobs, createAnother } = await setUp(t, yearly())
  await setDue(jobs, '1 second')
  await Promise.all(Array.from({ length: 8 }, () => createAnother()()))
  t.equal((await made(jobs)).length, 1)
})

t.test(
  'the job and the next occurrence are stored in one transaction; after an error, the next run stores both',
  async (t) => {
    const { jobs, fire } = await setUp(t, yearly())
    const [{ next_at: due }] = (await setDue(jobs, '1 second')) as [{ next_at: Date }]
    await jobs.query(`
    create function crash() returns trigger language plpgsql as $$ begin raise exception 'crash'; end $$;
    create trigger crash before update on accepted.schedule for each row execute function crash()`)
    await fire()
    t.same(await made(jobs), [])
    t.same((await row(jobs)).next_at, due)
    await jobs.query('drop trigger crash on accepted.schedule')
    await fire()
    t.equal((await made(jobs)).length, 1)
    await fire()
    t.equal((await made(jobs)).length, 1)
  },
)

t.test('an occurrence with an invalid payload stays due, and other schedules still fire', async (t) => {
  let isFixed = false
  const broken = yearly({
    name: 'broken',
    payload: (at: Date) => (isFixed ? day(at) : ({ day: 7 } as unknown as { day: string })),
  })
  const { jobs, fire } = await setUp(t, broken, yearly())
  await setDue(jobs, '1 second')
  await fire()
  t.match(await made(jobs), [{ idempotency_key: /^schedule:yearly:/ }])
  isFixed = true
  await fire()
  t.match((await made(jobs)).map(({ idempotency_key: key }) => key).sort(), [/^schedule:broken:/, /^schedule:yearly:/])
})

t.test('missed occurrences create no job (missed: skip), or a single job (missed: once)', async (t) => {
  const once = yearly({ name: 'once', cron: '0 * * * *', missed: 'once' })
  const { jobs, fire } = await setUp(t, yearly({ name: 'skip' }), once)
  await jobs.query(`update accepted.schedule set next_at = date_trunc('hour', now()) - interval '9 days'`)
  await fire()
  const rows = await jobs.query(`
    select name, last_at, next_at > now() as is_ahead, last_at = next_at - interval '1 hour' as is_last
    from accepted.schedule order by name`)
  t.match(rows, [
    { name: 'once', is_ahead: true, is_last: true },
    { name: 'skip', is_ahead: true, last_at: null },
  ])
  t.same(
    (await made(jobs)).map(({ idempotency_key: key }) => key),
    [`schedule:once:${rows[0].last_at.toISOString()}`],
  )
})

t.test('an occurrence of a paused schedule creates no job, even after the schedule is resumed', async (t) => {
  const { jobs, fire } = await setUp(t, yearly({ missed: 'once' }))
  await jobs.query('update accepted.schedule set paused = true')
  await setDue(jobs, '1 second')
  await fire()
  t.same(await made(jobs), [])
  t.ok((await row(jobs)).next_at > new Date())
  await jobs.query('update accepted.schedule set paused = false')
  await fire()
  t.same(await made(jobs), [])
  await setDue(jobs, '1 second')
  await fire()
  t.equal((await made(jobs)).length, 1)
})

t.test('a worker keeps unchanged schedules, updates changed schedules and deletes obsolete schedules', async (t) => {
  const jobs = await openJobs(t, [report])
  const [kept, changed, removed, removedWhilePaused] = ['kept', 'changed', 'removed', 'removed-while-paused'].map(
    (name) => yearly({ name }),
  ) as [Schedule, Schedule, Schedule, Schedule]
  await (await jobs.work(handlersFor(kept, changed, removed, removedWhilePaused))).stop()
  await jobs.query(`
    update accepted.schedule set next_at = now() + interval '1 hour', paused = name <> 'removed';
    insert into accepted.schedule (name, operation, expression, timezone, next_at) values
      ('of another app', 'other.make', '@daily', 'UTC', now()),
      ('of another app, not fired for 8 days', 'other.make', '@daily', 'UTC', now() - interval '8 days')`)
  const later = yearly({ name: 'changed', timezone: 'Europe/Berlin' })
  await jobs.work(handlersFor(kept, later))
  t.match(
    await jobs.query(`
      select name, timezone, paused, next_at between now() and now() + interval '1 hour' as soon
      from accepted.schedule order by name`),
    [
      { name: 'changed', timezone: 'Europe/Berlin', paused: true, soon: false },
      { name: 'kept', timezone: 'UTC', paused: true, soon: true },
      { name: 'of another app' },
      // A newer release may define this schedule. It must then still be paused.
      { name: 'removed-while-paused', paused: true },
    ],
  )
})

t.test('a worker does not fire a schedule when another worker has changed its definition', async (t) => {
  const { jobs, fire } = await setUp(t, yearly())
  await jobs.query("update accepted.schedule set expression = '0 4 1 1 *', next_at = now()")
  await fire()
  t.same(await made(jobs), [])
})

t.test('a worker with an invalid schedule fails at the start, with an error that names the schedule', async (t) => {
  const jobs = await openJobs(t, [report])
  for (const [wrong, message] of [
    [{ cron: '61 3 * * *' }, /^Schedule 'yearly': '61 3 \* \* \*' in UTC is invalid: .*61/],
    [{ timezone: 'Europe/Berln' }, /^Schedule 'yearly': .* in Europe\/Berln is invalid: .*time zone/],
    [{ cron: undefined, rrule: 'FREQ=DAILY;BYHOURS=9' }, /^Schedule 'yearly': 'FREQ=DAILY;BYHOURS=9' .*BYHOURS/],
    [
      { payload: { day: 7 } as unknown as { day: string } },
      /^Schedule 'yearly': its payload does not match the schema of 'report\.make': \/day must be string$/,
    ],
  ] as const) {
    await t.rejects(jobs.work(handlersFor(yearly(wrong))), { name: 'TypeError', message })
  }
  t.same(await jobs.query('select from accepted.schedule'), [])
})
