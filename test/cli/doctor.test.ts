import t from 'tap'
import { formatExamination } from '../../src/cli/doctor-command.ts'
import { databaseOptions, readSettings } from '../../src/settings.ts'
import { run } from '../support/command.ts'
import { createDatabase } from '../support/database.ts'
import { freePort } from '../support/program.ts'

t.test('if the database cannot be reached or is not migrated, `doctor` prints one error line', async (t) => {
  const empty = await createDatabase(t, { empty: true })
  for (const [DATABASE_URL, sentence] of [
    [`postgres://127.0.0.1:${await freePort()}/none`, /^error: Postgres does not answer at the address .*\n$/],
    [empty, /^error: .*run `accepted migrate` first\.\n$/],
  ] as const) {
    for (const args of [[], ['--json']]) {
      const ran = await run(['doctor', ...args], { DATABASE_URL })
      t.match(ran, { code: 1, err: sentence })
      t.notMatch(ran.out, 'No problems')
    }
  }
})

t.test('findings are one line each, aligned, whatever the texts contain', async (t) => {
  const findings = [
    { code: 'no-worker', severity: 'error', message: 'No live worker takes a.', action: 'accepted worker' },
    { code: 'operation-paused', severity: 'warning', message: 'a is paused (x\n\u001b[31my).', action: 'resume' },
  ] as const
  const notes = [{ check: 'server', text: 'PostgreSQL 18.4' }]
  t.equal(
    formatExamination({ findings: [...findings], notes }, false),
    `error    no-worker         No live worker takes a. To do: accepted worker
warning  operation-paused  a is paused (x y). To do: resume
Found 1 error and 1 warning.`,
  )
  t.equal(formatExamination({ findings: [], notes }, true), 'ok       server  PostgreSQL 18.4\nNo problems found.')
})

t.test('POOL_SIZE sets the size of the pools', async (t) => {
  const url = 'postgres://127.0.0.1/none'
  t.equal(databaseOptions(readSettings({ POOL_SIZE: '5' }), url).poolSize, 5)
  t.notOk('poolSize' in databaseOptions(readSettings({}), url))
  t.throws(() => readSettings({ POOL_SIZE: '1' }), {
    message: /^POOL_SIZE='1' is invalid: it must be an integer from 2 to 1000 /,
  })
})
