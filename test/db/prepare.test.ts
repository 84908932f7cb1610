import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type Database, openDatabase, transactionOn } from '../../src/db/database.ts'
import { createDatabase } from '../support/database.ts'

/** One connection, so that what it prepared can be looked at. */
async function openSingle(t: Test, options: { preparedStatements?: boolean } = {}): Promise<Database> {
  const database = openDatabase({ url: await createDatabase(t), poolSize: 1, ...options })
  t.teardown(() => database.close())
  return database
}

const prepared = async ({ pool }: Database): Promise<string[]> =>
  (await pool.query('select statement from pg_prepared_statements order by 1')).rows.map(({ statement }) => statement)

t.test('a statement with parameters is prepared from its second use on, by Kysely and by the pool alike', async (t) => {
  const database = await openSingle(t)
  const run = async (value: number) => {
    await sql`select ${value}::int as kysely`.execute(database.kysely)
    await database.pool.query('select $1::int as pool', [value])
  }
  await run(1)
  t.same(await prepared(database), [])
  await run(2)
  await run(3)
  t.same(await prepared(database), ['select $1::int as kysely', 'select $1::int as pool'])
})

t.test('no more than 500 texts are prepared', async (t) => {
  const database = await openSingle(t)
  for (let index = 0; index < 600; index++) {
    for (const value of [1, 2]) await database.pool.query(`select $1::int + ${index}`, [value])
  }
  t.equal((await prepared(database)).length, 500)
})

t.test('a plan that no longer fits fails once and is prepared anew', async (t) => {
  const database = await openSingle(t)
  const read = () => database.pool.query('select * from changing where id = $1', [1])
  await database.pool.query('create table changing (id integer)')
  for (let use = 0; use < 3; use++) await read()
  await database.pool.query('alter table changing add more text')
  await t.rejects(read(), { code: '0A000' })
  await t.resolves(read())
  await t.resolves(read())
})

t.test('a statement that Postgres does not support leaves all others prepared as they are', async (t) => {
  const database = await openSingle(t)
  const { kysely } = database
  for (let use = 0; use < 4; use++) {
    await sql`select ${1}::int`.execute(kysely)
    await t.rejects(sql`select count(*) from pg_class where oid = ${1} for update`.execute(kysely), { code: '0A000' })
  }
  t.same(await prepared(database), ['select $1::int'])
})

t.test('they can be switched off', async (t) => {
  const database = await openSingle(t, { preparedStatements: false })
  for (let use = 0; use < 3; use++) await database.pool.query('select $1::int', [1])
  t.same(await prepared(database), [])
})

t.test('a pg client serves as a transaction while it is in one', async (t) => {
  const { pool } = await openSingle(t)
  const client = await pool.connect()
  t.teardown(() => client.release())
  t.throws(() => transactionOn(client), /no transaction/)
  await client.query('begin')
  await sql`create table made (id integer)`.execute(transactionOn(client))
  await client.query('rollback')
  t.same((await client.query("select to_regclass('made') as made")).rows, [{ made: null }])
})
