import { sql } from 'kysely'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { createErrorReporter } from '../../src/db/error-reporter.ts'
import { isContention, isOutage } from '../../src/db/sqlstate.ts'
import { transact } from '../../src/db/transaction.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { until } from '../support/until.ts'
import { insertWord } from './support.ts'

async function setUp(t: Test) {
  const url = await createDatabase(t)
  await queryOnce(url, 'create table word (word text not null)')
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const report = createErrorReporter(log)
  const errors: Error[] = []
  const database = openDatabase({
    url,
    poolSize: 1,
    applicationName: 'timed out',
    onIdleError: (error) => {
      errors.push(error)
      report(error, 'An idle connection to Postgres failed; the pool replaces it')
    },
  })
  t.teardown(() => database.close())
  const hasNoConnection = async () =>
    (await queryOnce(url, "select from pg_stat_activity where application_name = 'timed out'")).length === 0
  const words = () => queryOnce(url, 'select word from word')
  return { database, lines, errors, hasNoConnection, words }
}

t.test('a connection that Postgres ends because it was idle is replaced, and the log stays silent', async (t) => {
  const { database, lines, errors, hasNoConnection, words } = await setUp(t)
  await database.pool.query('set idle_session_timeout = 20')
  await until(hasNoConnection)
  await until(() => errors.length > 0)
  t.match(errors, [{ code: '57P05' }])
  await transact(database, (trx) => insertWord(trx as unknown as AnyTransaction, 'x'))
  t.same(await words(), [{ word: 'x' }])
  t.same(lines, [])
})

for (const [code, setting, work] of [
  ['25P03', 'idle_in_transaction_session_timeout', undefined],
  ['25P04', 'transaction_timeout', undefined],
  ['25P04', 'transaction_timeout', 'select pg_sleep(60)'],
] as const) {
  const when = work ? 'during a statement' : 'between statements'
  t.test(`a transaction that Postgres ends ${when} with ${code} runs again`, async (t) => {
    const { database, hasNoConnection, words } = await setUp(t)
    const { rows } = await sql<{ version: number }>`
      select current_setting('server_version_num')::integer as version`.execute(database.kysely)
    if (setting === 'transaction_timeout' && (rows[0]?.version ?? 0) < 170_000) return t.pass('not in this version')
    const errors: unknown[] = []
    await transact(database, async (kyselyTrx) => {
      const trx = kyselyTrx as unknown as AnyTransaction
      await insertWord(trx, 'x')
      if (errors.length > 0) return
      await sql`select set_config(${setting}, '50ms', true)`.execute(trx)
      try {
        if (work) await sql.raw(work).execute(trx)
        await until(hasNoConnection)
        await insertWord(trx, 'never stored')
      } catch (error) {
        errors.push(error)
        throw error
      }
    })
    t.match(errors, [{ code }])
    t.ok(isContention(errors[0]))
    t.notOk(isOutage(errors[0]), 'it is not retried without limit')
    t.same(await words(), [{ word: 'x' }])
  })
}
