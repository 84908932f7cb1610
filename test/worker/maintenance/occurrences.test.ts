import { defineOperation, defineSchedule, type Schedule } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { decide, lastOccurrence, nextOccurrence } from '../../../worker/maintenance/occurrences.ts'
import { openJobs } from '../../support/jobs.ts'

const report = defineOperation({ name: 'report.make', input: Type.Object({ day: Type.String() }) })
const day = (at: Date) => ({ day: at.toISOString().slice(0, 10) })

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
  t.equal(
    next(night, '2027-03-27T12:00:00Z'),
    '2027-03-28T01:30:00.000Z',
    'an occurrence in the skipped hour fires an hour later by the clock',
  )
  t.equal(
    next(night, '2027-10-30T12:00:00Z'),
    '2027-10-31T00:30:00.000Z',
    'an occurrence in the repeated hour fires once',
  )
  t.equal(next(night, '2027-10-31T00:30:00Z'), '2027-11-01T01:30:00.000Z')
})

t.test(
  'decide handles one occurrence at a time, and returns no next occurrence at the end of a finite rule',
  async (t) => {
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
  },
)

t.test('lastOccurrence finds the last occurrence up to a given time, even among millions of occurrences', async (t) => {
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
