import { sql } from 'kysely'
import t from 'tap'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { transactionOn } from '../../src/db/transaction-on.ts'
import { openTestDatabase } from '../support/database.ts'

t.test('a pg client can be used as a transaction only after begin', async (t) => {
  const { pool } = await openTestDatabase(t)
  const client = await pool.connect()
  t.teardown(() => client.release())
  t.throws(() => transactionOn(client), /not in a transaction/)
  await client.query('begin')
  await sql`create table made (id integer)`.execute(transactionOn(client))
  await runWithGenericPlan(transactionOn(client), sql`select 1`)
  await client.query('rollback')
  t.same((await client.query("select to_regclass('made') as made")).rows, [{ made: null }])
})
