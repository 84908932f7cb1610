import { pino } from 'pino'
import t from 'tap'
import { createErrorReporter } from '../../src/db/error-reporter.ts'
import { markPostgresError } from '../../src/db/postgres-error.ts'

const fromPostgres = (message: string, code: string) => markPostgresError(Object.assign(new Error(message), { code }))

function setUp() {
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  return { lines, report: createErrorReporter(log) }
}

t.test('an unexpected error is logged each time, with its stack', async (t) => {
  const { lines, report } = setUp()
  report(new RangeError('Out of range'), 'Task failed; retrying', { task: 'poll' })
  report(new RangeError('Out of range'), 'Task failed; retrying', { task: 'poll' })
  const expected = {
    msg: 'Task failed; retrying',
    task: 'poll',
    err: { type: 'RangeError', stack: /error-reporter\.test/ },
  }
  t.match(lines, [expected, expected])
})

t.test('an outage of Postgres is logged once, without a stack', async (t) => {
  const { lines, report } = setUp()
  const refused = fromPostgres('connect ECONNREFUSED', 'ECONNREFUSED')
  const shutdown = fromPostgres('terminating connection', '57P01')
  for (const error of [refused, shutdown, refused]) report(error, 'Task failed; retrying', { task: 'poll' })
  t.equal(lines.length, 1)
  t.match(lines[0], {
    msg: 'Postgres is unavailable. Task failed; retrying',
    reason: 'connect ECONNREFUSED',
    task: 'poll',
  })
  t.notOk(lines[0] && 'err' in lines[0])
})

t.test('a credential in the message of an outage or of contention is not logged', async (t) => {
  const { lines, report } = setUp()
  for (const code of ['ECONNREFUSED', '40P01']) {
    report(fromPostgres('connect postgres://ann:hunter2@db failed', code), 'Task failed; retrying')
  }
  t.match(lines, [{ reason: /^connect postgres:/ }, { reason: /^connect postgres:/ }])
  t.notMatch(JSON.stringify(lines), /hunter2/)
})
