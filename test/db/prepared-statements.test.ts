import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
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

t.test('a statement whose result columns have changed fails once and is prepared again', async (t) => {
  const database = await openSingle(t)
  const read = () => database.pool.query('select * from changing where id = $1', [1])
  await database.pool.query('create table changing (id integer)')
  for (let use = 0; use < 3; use++) await read()
  await database.pool.query('alter table changing add more text')
  await t.rejects(read(), { code: '0A000' })
  await t.resolves(read())
  await t.resolves(read())
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
