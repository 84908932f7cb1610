import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { transact } from '../../src/db/transaction.ts'
import { createDatabase } from '../support/database.ts'

/** Opens a pool with a single connection. {@link preparedTexts} reads the statements of that connection. */
async function openSingle(t: Test, options: { preparedStatements?: boolean } = {}): Promise<Database> {
  const database = openDatabase({ url: await createDatabase(t), poolSize: 1, ...options })
  t.teardown(() => database.close())
  return database
}

const preparedTexts = async ({ pool }: Database): Promise<string[]> =>
  (await pool.query('select statement from pg_prepared_statements order by 1')).rows.map(({ statement }) => statement)

t.test('statements with parameters are prepared on their second use, from Kysely and from the pool', async (t) => {
  const database = await openSingle(t)
  const run = async (value: number) => {
    await sql`select ${value}::int as kysely`.execute(database.kysely)
    await database.pool.query('select $1::int as pool', [value])
  }
  await run(1)
  t.same(await preparedTexts(database), [])
  await run(2)
  await run(3)
  t.same(await preparedTexts(database), ['select $1::int as kysely', 'select $1::int as pool'])
})

t.test('a connection prepares at most 500 statements', async (t) => {
  const database = await openSingle(t)
  for (let index = 0; index < 600; index++) {
    for (const value of [1, 2]) await database.pool.query(`select $1::int + ${index}`, [value])
  }
  t.equal((await preparedTexts(database)).length, 500)
})

t.test('outside a transaction, a statement whose result columns have changed is prepared again at once', async (t) => {
  const { pool, kysely } = await openSingle(t)
  const text = 'select * from changing where id = $1'
  const reads = [
    async () => (await pool.query(text, [1])).rows,
    async () => (await sql`select * from changing where id = ${1}`.execute(kysely)).rows,
  ]
  await pool.query('create table changing (id integer); insert into changing values (1)')
  for (const read of reads) for (let use = 0; use < 3; use++) t.same(await read(), [{ id: 1 }])
  await pool.query('alter table changing add more text')
  for (const read of reads) for (let use = 0; use < 3; use++) t.same(await read(), [{ id: 1, more: null }])
})

t.test('in a transaction, a statement whose result columns have changed makes the transaction run again', async (t) => {
  const database = await openSingle(t)
  await database.pool.query('create table changing (id integer)')
  let runs = 0
  const insert = () =>
    transact(database, async (trx) => {
      runs += 1
      return (await sql`insert into changing (id) values (${1}) returning *`.execute(trx)).rows
    })
  for (let use = 0; use < 3; use++) t.same(await insert(), [{ id: 1 }])
  await database.pool.query('alter table changing add more text')
  t.same(await insert(), [{ id: 1, more: null }])
  t.equal(runs, 5)
  t.match((await database.pool.query('select count(*)::int from changing')).rows, [{ count: 4 }])
})

t.test('an unsupported statement also fails with SQLSTATE 0A000, but discards no prepared statement', async (t) => {
  const database = await openSingle(t)
  const { kysely } = database
  for (let use = 0; use < 4; use++) {
    await sql`select ${1}::int`.execute(kysely)
    await t.rejects(sql`select count(*) from pg_class where oid = ${1} for update`.execute(kysely), { code: '0A000' })
  }
  t.same(await preparedTexts(database), ['select $1::int'])
})

t.test('with preparedStatements: false, no statement is prepared', async (t) => {
  const database = await openSingle(t, { preparedStatements: false })
  for (let use = 0; use < 3; use++) await database.pool.query('select $1::int', [1])
  t.same(await preparedTexts(database), [])
})
