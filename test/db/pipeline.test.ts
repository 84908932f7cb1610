import pg from 'pg'
import t from 'tap'
import { commitStatement, pipeline } from '../../src/db/pipeline.ts'
import { transactionOn } from '../../src/db/transaction-on.ts'
import { insertWord, openWatched } from './support.ts'

t.test('pipelined statements run in order', async (t) => {
  const { database, words } = await openWatched(t)
  const results = await database.kysely
    .transaction()
    .execute((trx) =>
      pipeline(trx, (trx) => [insertWord(trx, 'a'), Promise.resolve('sends nothing'), insertWord(trx, 'b')]),
    )
  t.equal(results[1], 'sends nothing')
  t.same(await words(), ['a', 'b'])
})

t.test(
  'when a pipelined statement fails, the transaction rolls back and rejects with the error of the statement',
  async (t) => {
    const { database, words } = await openWatched(t)
    await database.pool.query("insert into word values ('a')")
    const failing = database.kysely
      .transaction()
      .execute((trx) => pipeline(trx, (trx) => [insertWord(trx, 'c'), insertWord(trx, 'a'), insertWord(trx, 'd')]))
    await t.rejects(failing, { code: '23505' })
    t.same(await words(), ['a'])
  },
)

t.test('a transaction can commit with its last statement', async (t) => {
  const { database, words } = await openWatched(t)
  const insertAll = (...all: string[]) =>
    database.kysely
      .transaction()
      .execute((trx) => pipeline(trx, (trx) => [...all.map((word) => insertWord(trx, word)), commitStatement(trx)]))
  await insertAll('a')
  t.same(await words(), ['a'])
  await t.rejects(insertAll('b', 'a'), { code: '23505' })
  t.same(await words(), ['a'])
  await insertAll('b')
  t.same(await words(), ['a', 'b'])
})

t.test("on an app's own pg client, pipelined statements run one after another", async (t) => {
  const { url, words } = await openWatched(t)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  await client.query('begin')
  await pipeline(transactionOn(client), (trx) => [insertWord(trx, 'a'), insertWord(trx, 'b')])
  await client.query('commit')
  t.same(await words(), ['a', 'b'])
})
