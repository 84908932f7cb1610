import { defineOperation, defineSchedule } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { collectSchedules } from '../src/schedule.ts'

const operation = defineOperation({ name: 'report.make', input: Type.Object({ day: Type.String() }) })
const other = defineOperation({ name: 'report.other', input: Type.Object({}) })
const payload = { day: 'today' }
const named = (name: string) => defineSchedule({ name, cron: '0 3 * * *', operation, payload })

t.test('defineSchedule sets defaults and rejects an invalid name, expression, policy or principal', async (t) => {
  t.match(named('nightly-report'), {
    expression: '0 3 * * *',
    timezone: 'UTC',
    principal: 'schedule',
    missed: 'skip',
  })
  t.match(defineSchedule({ name: 'x', rrule: 'FREQ=DAILY', operation, payload: (at) => ({ day: at.toISOString() }) }), {
    expression: 'FREQ=DAILY',
  })
  for (const [wrong, message] of [
    [{ name: 'two words', cron: '0 3 * * *' }, /^Schedule 'two words': the name must match/],
    [{ name: 'x' }, /^Schedule 'x': set either cron or rrule/],
    [{ name: 'x', cron: '0 3 * * *', rrule: 'FREQ=DAILY' }, /either cron or rrule/],
    [{ name: 'x', cron: '' }, /cron must have five or six fields, not ''/],
    [{ name: 'x', cron: '0 3' }, /cron must have five or six fields, not '0 3'/],
    [{ name: 'x', rrule: '0 3 * * *' }, /rrule must contain FREQ=/],
    [{ name: 'x', cron: '0 3 * * *', missed: 'twice' }, /missed must be 'skip' or 'once', not 'twice'/],
    [{ name: 'x', cron: '0 3 * * *', principal: '' }, /the principal must not be empty/],
  ] as const) {
    t.throws(
      () => defineSchedule({ operation, payload, ...wrong } as unknown as Parameters<typeof defineSchedule>[0]),
      {
        message,
      },
    )
  }
})

t.test('collectSchedules ignores other exports, and requires the export of each operation used', async (t) => {
  const [a, b] = [named('a'), named('b')]
  const operations = new Map([[operation.name, operation]])
  t.same([...collectSchedules({ a, b, again: a, operation, text: 'x', none: null }, operations).keys()], ['a', 'b'])
  t.throws(() => collectSchedules({ a, other: named('a') }, operations), /Two schedules are named 'a'/)
  const elsewhere = defineSchedule({ name: 's', cron: '0 3 * * *', operation: other, payload: {} })
  t.throws(() => collectSchedules({ elsewhere }, operations), /'s': export its operation 'report.other'/)
})
