import { defineOperation, defineSchedule, type Schedule } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../../src/db/notifier.ts'
import { decide, lastOccurrence, nextOccurrence } from '../../../worker/maintenance/occurrences.ts'
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

/** A yearly schedule, so that it fires only when the test makes it due. */
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

t.test(
  'an occurrence becomes one job, however many workers run, even if none of them runs its operation',
  async (t) => {
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
  },
)

t.test('schedulers that fire at the same time create one job', async (t) => {
  const { jobs, createAnother } = await setUp(t, yearly())
  await setDue(jobs, '1 second')
  await Promise.all(Array.from({ length: 8 }, () => createAnother()()))
  t.equal((await made(jobs)).length, 1)
})

t.test('the job and the next occurrence commit together, and after an error the occurrence fires later', async (t) => {
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
})

t.test('a schedule with an invalid payload keeps its occurrence, and other schedules fire', async (t) => {
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

t.test('missed occurrences are skipped, or create one job', async (t) => {
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

t.test('the occurrences of a paused schedule create no job, not even later', async (t) => {
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

t.test('a worker keeps unchanged schedules, updates changed ones and deletes obsolete ones', async (t) => {
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
      // A newer release may define it.
      { name: 'removed-while-paused', paused: true },
    ],
  )
})

t.test('a schedule does not fire in a worker that has another definition of it', async (t) => {
  const { jobs, fire } = await setUp(t, yearly())
  await jobs.query("update accepted.schedule set expression = '0 4 1 1 *', next_at = now()")
  await fire()
  t.same(await made(jobs), [])
})

t.test('a worker with an invalid schedule does not start, and its error names the schedule', async (t) => {
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

t.test('occurrences follow the time zone, also across changes of daylight saving time', async (t) => {
  const { boss } = await openJobs(t, [report])
  const next = (schedule: Schedule, after: string) => nextOccurrence(boss, schedule, new Date(after))?.toISOString()
  const berlin = { operation: report, payload: day, timezone: 'Europe/Berlin' }
  for (const schedule of [
    defineSchedule({ name: 'cron', cron: '0 9 * * *', ...berlin }),
    defineSchedule({ name: 'rrule', rrule: 'FREQ=DAILY;BYHOUR=9', ...berlin }),
  ]) {
    t.equal(next(schedule, '2027-03-26T12:00:00Z'), '2027-03-27T08:00:00.000Z')
    t.equal(next(schedule, '2027-03-27T12:00:00Z'), '2027-03-28T07:00:00.000Z')
    t.equal(next(schedule, '2027-10-30T12:00:00Z'), '2027-10-31T08:00:00.000Z')
  }
  const night = defineSchedule({ name: 'night', cron: '30 2 * * *', ...berlin })
  t.equal(next(night, '2027-03-27T12:00:00Z'), '2027-03-28T01:30:00.000Z', 'a skipped hour fires at its end')
  t.equal(next(night, '2027-10-30T12:00:00Z'), '2027-10-31T00:30:00.000Z', 'a repeated hour fires once')
  t.equal(next(night, '2027-10-31T00:30:00Z'), '2027-11-01T01:30:00.000Z')
})

t.test('decide handles one occurrence at a time, and a finite rule ends without a next one', async (t) => {
  const { boss } = await openJobs(t, [report])
  const decideAt = (schedule: Schedule, due: string, now: string) =>
    decide(boss, schedule, { due: new Date(due), now: new Date(now), paused: false })
  const often = defineSchedule({ name: 'x', cron: '*/10 * * * * *', operation: report, payload: day })
  t.same(decideAt(often, '2027-01-01T00:00:00Z', '2027-01-01T00:00:35Z'), {
    fire: new Date('2027-01-01T00:00:00Z'),
    next: new Date('2027-01-01T00:00:10Z'),
  })
  t.same(decideAt(often, '2027-01-01T00:00:00Z', '2027-01-01T00:05:05Z'), { next: new Date('2027-01-01T00:04:10Z') })
  const rule = 'DTSTART:20270101T000000Z\nRRULE:FREQ=DAILY;COUNT=3'
  for (const missed of ['skip', 'once'] as const) {
    const thrice = defineSchedule({ name: 'x', rrule: rule, operation: report, payload: day, missed })
    const last = new Date('2027-01-03T00:00:00Z')
    t.same(decideAt(thrice, '2027-01-03T00:00:00Z', '2027-01-03T00:00:01Z'), { fire: last, next: null })
    t.same(decideAt(thrice, '2027-01-01T00:00:00Z', '2027-02-01T00:00:00Z'), {
      ...(missed === 'once' && { fire: last }),
      next: null,
    })
  }
})

t.test('lastOccurrence finds the last occurrence up to a time, however many there are', async (t) => {
  const { boss } = await openJobs(t, [report])
  for (const [expression, earlier, until, last] of [
    [{ cron: '* * * * * *' }, '2027-01-01T00:00:00Z', '2027-02-01T00:00:00.500Z', '2027-02-01T00:00:00Z'],
    [{ cron: '0 3 * * *' }, '2027-01-01T03:00:00Z', '2027-01-09T03:00:00Z', '2027-01-09T03:00:00Z'],
    [{ cron: '0 3 * * *' }, '2027-01-01T03:00:00Z', '2027-01-02T02:59:59Z', '2027-01-01T03:00:00Z'],
    [{ cron: '0 0 29 2 *' }, '2028-02-29T00:00:00Z', '2037-01-01T00:00:00Z', '2036-02-29T00:00:00Z'],
    [{ rrule: 'FREQ=SECONDLY;BYMONTHDAY=1' }, '2027-01-01T00:00:00Z', '2027-02-20T00:00:00Z', '2027-02-01T23:59:59Z'],
  ] as const) {
    const schedule = defineSchedule({ name: 'x', operation: report, payload: day, ...expression })
    t.same(
      lastOccurrence(boss, schedule, new Date(earlier), new Date(until)),
      new Date(last),
      JSON.stringify(expression),
    )
  }
})
