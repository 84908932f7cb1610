import { defineOperation, defineSchedule } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { schedulesIn } from '../src/schedule.ts'

const operation = defineOperation({ name: 'report.make', input: Type.Object({ day: Type.String() }) })
const other = defineOperation({ name: 'report.other', input: Type.Object({}) })
const payload = { day: 'today' }
const named = (name: string) => defineSchedule({ name, cron: '0 3 * * *', operation, payload })

t.test('a schedule has a name, one expression and its defaults', async (t) => {
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
    [{ name: 'x' }, /^Schedule 'x': it needs either cron or rrule/],
    [{ name: 'x', cron: '0 3 * * *', rrule: 'FREQ=DAILY' }, /either cron or rrule/],
    [{ name: 'x', cron: '' }, /cron needs five fields, or six, not ''/],
    [{ name: 'x', cron: '0 3' }, /cron needs five fields, or six, not '0 3'/],
    [{ name: 'x', rrule: '0 3 * * *' }, /rrule must have FREQ=/],
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

t.test('schedules are found among other exports, each of an operation beside it', async (t) => {
  const [a, b] = [named('a'), named('b')]
  const operations = new Map([[operation.name, operation]])
  t.same([...schedulesIn({ a, b, again: a, operation, text: 'x', none: null }, operations).keys()], ['a', 'b'])
  t.throws(() => schedulesIn({ a, other: named('a') }, operations), /Two schedules are named 'a'/)
  const strange = defineSchedule({ name: 's', cron: '0 3 * * *', operation: other, payload: {} })
  t.throws(() => schedulesIn({ strange }, operations), /'s': its operation 'report.other' is not among the exports/)
})
